// All operations of a compound, by number.

import { access } from "./access.ts";
import { backchannelCtl } from "./backchannel-ctl.ts";
import { bindConnToSession } from "./bind-conn-to-session.ts";
import { close } from "./close.ts";
import { commit } from "./commit.ts";
import { create } from "./create.ts";
import { createSession } from "./create-session.ts";
import { destroyClientid, destroySession } from "./destroy.ts";
import { exchangeId } from "./exchange-id.ts";
import { getattr } from "./getattr.ts";
import { getfh } from "./getfh.ts";
import { link } from "./link.ts";
import { lock } from "./lock.ts";
import { lockt } from "./lockt.ts";
import { locku } from "./locku.ts";
import { lookup } from "./lookup.ts";
import { lookupp } from "./lookupp.ts";
import { open } from "./open.ts";
import { openDowngrade } from "./open-downgrade.ts";
import type { Operation } from "./operation.ts";
import { putfh } from "./putfh.ts";
import { putpubfh, putrootfh } from "./putrootfh.ts";
import { read } from "./read.ts";
import { readdir } from "./readdir.ts";
import { readlink } from "./readlink.ts";
import { remove } from "./remove.ts";
import { rename } from "./rename.ts";
import { restorefh, savefh } from "./savefh.ts";
import { secinfo, secinfoNoName } from "./secinfo.ts";
import { sequence } from "./sequence.ts";
import { setattr } from "./setattr.ts";
import { freeStateid, reclaimComplete, testStateid } from "./stateids.ts";
import { ILLEGAL, UNSUPPORTED } from "./unsupported.ts";
import { nverify, verify } from "./verify.ts";
import { write } from "./write.ts";

const OPERATIONS: readonly Operation[] = [
	access,
	close,
	commit,
	create,
	getattr,
	getfh,
	link,
	lock,
	lockt,
	locku,
	lookup,
	lookupp,
	nverify,
	open,
	openDowngrade,
	putfh,
	putpubfh,
	putrootfh,
	read,
	readdir,
	readlink,
	remove,
	rename,
	restorefh,
	savefh,
	secinfo,
	setattr,
	verify,
	write,
	backchannelCtl,
	bindConnToSession,
	exchangeId,
	createSession,
	destroySession,
	freeStateid,
	secinfoNoName,
	sequence,
	testStateid,
	destroyClientid,
	reclaimComplete,
	...UNSUPPORTED,
];

const LAST = Math.max(...OPERATIONS.map(({ number }) => number));
const TABLE: readonly Operation[] = Array.from(
	{ length: LAST + 1 },
	(_, number) => OPERATIONS.find((operation) => operation.number === number) ?? ILLEGAL,
);

export function operationOf(number: number): Operation {
	return TABLE[number] ?? ILLEGAL;
}
