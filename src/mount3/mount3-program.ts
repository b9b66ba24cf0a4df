// The MOUNT version 3 program: its procedures by number.

import type { Exports } from "../exports/exports.ts";
import { NULL_PROCEDURE, type Program } from "../rpc/program.ts";
import { dump } from "./dump.ts";
import { exportList } from "./export.ts";
import { mnt } from "./mnt.ts";
import { MountList } from "./mount-list.ts";
import { MOUNT_PROGRAM, MOUNT_VERSION_3 } from "./protocol.ts";
import { umnt } from "./umnt.ts";
import { umntall } from "./umntall.ts";

/** MOUNT version 3 (RFC 1813 appendix I), procedures 0 .. 5. */
export function mount3Program(exports: Exports): Program {
	const mounts = new MountList();
	const procedures = [NULL_PROCEDURE, mnt(exports, mounts), dump(mounts), umnt(mounts), umntall(mounts), exportList(exports)];
	return { number: MOUNT_PROGRAM, name: "MOUNT", versions: new Map([[MOUNT_VERSION_3, procedures]]) };
}
