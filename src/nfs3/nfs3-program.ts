// The NFS version 3 program: its procedures by number.

import type { Exports } from "../exports/exports.ts";
import { NULL_PROCEDURE, type Program } from "../rpc/program.ts";
import { access } from "./access.ts";
import { commit } from "./commit.ts";
import { create } from "./create.ts";
import { fsinfo } from "./fsinfo.ts";
import { fsstat } from "./fsstat.ts";
import { getattr } from "./getattr.ts";
import { link } from "./link.ts";
import { lookup } from "./lookup.ts";
import { mkdir } from "./mkdir.ts";
import { mknod } from "./mknod.ts";
import { pathconf } from "./pathconf.ts";
import { type Nfs3Procedure, remoteProcedure } from "./procedure.ts";
import { NFS_PROGRAM, NFS_VERSION_3 } from "./protocol.ts";
import { read } from "./read.ts";
import { readdir } from "./readdir.ts";
import { readdirplus } from "./readdirplus.ts";
import { readlink } from "./readlink.ts";
import { remove } from "./remove.ts";
import { rename } from "./rename.ts";
import { Nfs3Request } from "./request.ts";
import { rmdir } from "./rmdir.ts";
import { setattr } from "./setattr.ts";
import { symlink } from "./symlink.ts";
import { write } from "./write.ts";

/** Procedures 1 .. 21 in the order of RFC 1813 section 3.3. */
const PROCEDURES: readonly Nfs3Procedure[] = [
	getattr,
	setattr,
	lookup,
	access,
	readlink,
	read,
	write,
	create,
	mkdir,
	symlink,
	mknod,
	remove,
	rmdir,
	rename,
	link,
	readdir,
	readdirplus,
	fsstat,
	fsinfo,
	pathconf,
	commit,
];

/** NFS version 3 (RFC 1813) over these exports. */
export function nfs3Program(exports: Exports): Program {
	const request = new Nfs3Request(exports);
	const procedures = PROCEDURES.map((procedure) => remoteProcedure(procedure, request));
	return { number: NFS_PROGRAM, name: "NFS", versions: new Map([[NFS_VERSION_3, [NULL_PROCEDURE, ...procedures]]]) };
}
