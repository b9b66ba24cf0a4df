// Takes the results of a COMPOUND apart by RFC 8881 alone: what is not of its form is found out.

import { Op } from "../nfs4/protocol.ts";
import { Status } from "../nfs4/status.ts";
import type { XdrReader } from "../xdr/xdr-reader.ts";
import { mayAnswer } from "./nfs4-errors.test-support.ts";

type Decode = (reader: XdrReader) => void;

const nothing: Decode = () => {};
const stateid: Decode = (reader) => void reader.fixed(16);
const changeInfo: Decode = (reader) => {
	reader.bool();
	reader.fixed(16);
};
const bitmap: Decode = (reader) => {
	const count = reader.u32();
	if (count > 8) throw new Error(`A bitmap of ${count} words`);
	reader.fixed(4 * count);
};
const fattr: Decode = (reader) => {
	bitmap(reader);
	if (reader.opaque(65536).length % 4 !== 0) throw new Error("Attributes that do not end where an item ends");
};
const each = (reader: XdrReader, decode: Decode, most = 4096): void => {
	const count = reader.u32();
	if (count > most) throw new Error(`${count} items`);
	for (let index = 0; index < count; index++) decode(reader);
};
const u32s =
	(count: number): Decode =>
	(reader) =>
		void reader.fixed(4 * count);
const channel: Decode = (reader) => {
	reader.fixed(24);
	each(reader, u32s(1), 1);
};

function directory(reader: XdrReader): void {
	reader.fixed(8);
	while (reader.bool()) {
		reader.fixed(8);
		reader.opaque(255);
		fattr(reader);
	}
	reader.bool();
}

function opened(reader: XdrReader): void {
	stateid(reader);
	changeInfo(reader);
	reader.u32();
	bitmap(reader);
	const kind = reader.u32();
	if (kind !== 0 && kind !== 3) throw new Error(`A delegation of kind ${kind}`);
	if (kind === 3) {
		const why = reader.u32();
		if (why > 8) throw new Error(`No delegation because of ${why}`);
		if (why === 1 || why === 2) reader.bool();
	}
}

function exchanged(reader: XdrReader): void {
	reader.fixed(16);
	if (reader.u32() !== 0) throw new Error("State protection that nobody asked for");
	reader.fixed(8);
	reader.opaque(1024);
	reader.opaque(1024);
	each(reader, nothing, 0);
}

/** What follows NFS4_OK. */
const DONE: ReadonlyMap<number, Decode> = new Map<number, Decode>([
	[Op.access, u32s(2)],
	[Op.close, stateid],
	[Op.commit, u32s(2)],
	[
		Op.create,
		(reader) => {
			changeInfo(reader);
			bitmap(reader);
		},
	],
	[Op.getattr, fattr],
	[Op.getfh, (reader) => void reader.opaque(128)],
	[Op.link, changeInfo],
	[Op.lock, stateid],
	[Op.locku, stateid],
	[Op.open, opened],
	[Op.openDowngrade, stateid],
	[
		Op.read,
		(reader) => {
			reader.bool();
			reader.opaque(2 ** 20);
		},
	],
	[Op.readdir, directory],
	[Op.readlink, (reader) => void reader.opaque(4096)],
	[Op.remove, changeInfo],
	[
		Op.rename,
		(reader) => {
			changeInfo(reader);
			changeInfo(reader);
		},
	],
	[Op.secinfo, (reader) => each(reader, u32s(1))],
	[Op.secinfoNoName, (reader) => each(reader, u32s(1))],
	[Op.setattr, bitmap],
	[Op.write, u32s(4)],
	[
		Op.bindConnToSession,
		(reader) => {
			reader.fixed(16);
			if (reader.u32() > 3) throw new Error("No direction");
			reader.bool();
		},
	],
	[Op.exchangeId, exchanged],
	[
		Op.createSession,
		(reader) => {
			reader.fixed(24);
			channel(reader);
			channel(reader);
		},
	],
	[Op.sequence, u32s(9)],
	[Op.testStateid, (reader) => each(reader, u32s(1))],
	[Op.lookup, nothing],
	[Op.lookupp, nothing],
	[Op.nverify, nothing],
	[Op.verify, nothing],
	[Op.putfh, nothing],
	[Op.putpubfh, nothing],
	[Op.putrootfh, nothing],
	[Op.restorefh, nothing],
	[Op.savefh, nothing],
	[Op.lockt, nothing],
	[Op.backchannelCtl, nothing],
	[Op.destroySession, nothing],
	[Op.destroyClientid, nothing],
	[Op.freeStateid, nothing],
	[Op.reclaimComplete, nothing],
]);

function denied(reader: XdrReader): void {
	reader.fixed(16);
	const kind = reader.u32();
	if (kind !== 1 && kind !== 2) throw new Error(`A lock of kind ${kind}`);
	reader.fixed(8);
	reader.opaque(1024);
}

/** Reads the results of COMPOUND up to their end, and gives the status. Throws where they are not of the form that RFC 8881 gives them. */
export function checkResults(reader: XdrReader): number {
	const status = reader.u32();
	reader.opaque(1024);
	const count = reader.u32();
	let last = status;
	for (let index = 0; index < count; index++) {
		const number = reader.u32();
		last = reader.u32();
		if (!mayAnswer(number, last)) throw new Error(`Operation ${number} answered ${last}`);
		const isLast = index === count - 1;
		if (!isLast && last !== Status.ok) throw new Error(`Operation ${index} failed, and more follow`);
		const decode = DONE.get(number);
		if (last === Status.ok) {
			if (decode === undefined) throw new Error(`Operation ${number} is not served, and succeeded`);
			decode(reader);
		} else if (last === Status.denied && (number === Op.lock || number === Op.lockt)) denied(reader);
		else if (number === Op.setattr) bitmap(reader);
		if (number === Op.illegal && last !== Status.opIllegal) throw new Error("An illegal operation with another status");
	}
	if (last !== status && status !== Status.badxdr && !(count === 0 && status === Status.minorVersMismatch)) {
		throw new Error(`The compound says ${status}, its last operation ${last}`);
	}
	if (reader.remaining > 0) throw new Error(`${reader.remaining} bytes behind the results`);
	return status;
}
