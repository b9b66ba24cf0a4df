// The intent and the answers over kills, damage, time and many clients.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fs, {
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	rmdirSync,
	statSync,
	truncateSync,
	unlinkSync,
	writeFileSync,
} from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../../test/support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../../../test/support/scratch.ts";
import { KernelHandles } from "../../layer/handle-provider.ts";
import { type Layer, TRUSTED_XATTRS } from "../../layer/layer.ts";
import { allocateRange } from "../../linux/data.ts";
import { ERRNO } from "../../linux/errno.ts";
import { type FileHandle, handleOf } from "../../linux/file-handle.ts";
import { interceptChanges } from "../../linux/libc.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { getXattr, setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import type { ChangeKey, RequestSource } from "../../vfs/operations.ts";
import { crc32 } from "../format/crc32.ts";
import { LinkCounts } from "../work/link-counts.ts";
import { WorkFolder } from "../work/work-folder.ts";
import { encodeCompact } from "./compact.ts";
import { type Answer, Journal } from "./journal.ts";
import type { Descriptors, Step } from "./steps.ts";
import type { Writable } from "./writable.ts";

const ROOT = { skip: needs("root") };
const RECORD_BYTES = 128;
const RETENTION_MS = 15 * 60 * 1000;
const START = 1_700_000_000_000;

/** A key of a request of its own object, as a front end makes one for each that it takes in. */
function request(xid: number, { client = "192.0.2.1", checksumLo = 0xfedcba98, change = 0 } = {}): ChangeKey {
	return { request: { owner: client, numbers: [xid, 100003, 3, 8, 128, 0x89abcdef, checksumLo] }, change };
}

function good(handle: FileHandle | number): FileHandle {
	assert.ok(typeof handle !== "number");
	return handle;
}

const MEGABYTES = { tmpfs: 16, ext4: 64, xfs: 320, btrfs: 128, root: 0 };

/** An upper with a file in work, and journals over one folder: each `open` is as a new start of the server. */
function fixture(context: TestContext, kind: FileSystem = "tmpfs") {
	const folder = scratch(context);
	const path = folder.mount(kind, kind, MEGABYTES[kind]);
	for (const name of ["work", "holdfast", "upper"]) mkdirSync(join(path, name));
	writeFileSync(join(path, "work/#0"), "content");
	const open = (name: string, flags: number) => {
		const fd = openPath(join(path, name), flags);
		assert.ok(fd >= 0);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	const upper = open("upper", O.rdonly | O.directory);
	const file = open("work/#0", O.path);
	const directory = O.rdonly | O.directory;
	const work = new WorkFolder(openPath(join(path, "work"), directory), openPath(join(path, "holdfast"), directory), join(path, "holdfast"));
	folder.beforeRemoval(() => work.close());
	const linkCounts = new LinkCounts(work.own);
	folder.beforeRemoval(() => linkCounts.close());
	const layer = {
		root: upper,
		xattr: TRUSTED_XATTRS,
		fileSystem: { name: kind },
		handles: new KernelHandles(upper),
	} as unknown as Layer;
	const writable = { layer, work, linkCounts } as unknown as Writable;
	const places = { upper: good(handleOf(upper)), file: good(handleOf(file)) };
	const descriptors: Descriptors = {
		directory: (of) => (of === "work" ? work.temporaries : upper),
		inode: () => file,
		isRecovery: false,
		keep: close,
	};
	let now = START;
	let journal: Journal | null = null;
	folder.beforeRemoval(() => journal?.close());
	/** Two steps that show: the file gets a name of arbitrary bytes, and then an xattr. */
	const name = Buffer.from([0x66, 0xff, 0x0a, 0x22, 0x80]);
	const steps: Step[] = [
		{ op: "move", inode: places.file, from: "work", fromName: "#0", to: places.upper, toName: name, flags: 0 },
		{ op: "xattr", inode: places.file, name: "trusted.overlay.test", value: Buffer.from([0, 0xff, 1]) },
	];
	return {
		folder: join(path, "holdfast"),
		descriptors,
		steps,
		work,
		/** How far the steps are. */
		state(): "none" | "moved" | "done" {
			if (existsSync(join(path, "work/#0"))) return "none";
			assert.deepEqual(readdirSync(join(path, "upper"), { encoding: "buffer" }), [name]);
			const value = getXattr(file, "trusted.overlay.test");
			return Buffer.isBuffer(value) && value.equals(Buffer.from([0, 0xff, 1])) ? "done" : "moved";
		},
		setTime(time: number) {
			now = time;
		},
		start(mayPostpone = false): Journal {
			journal?.close();
			journal = new Journal(
				join(path, "holdfast"),
				() => writable,
				() => now,
			);
			journal.recover(true, true, mayPostpone);
			return journal;
		},
	};
}

/** Runs `change` and stops for ever before the system call number `count` that changes something, as a kill does. */
function killBefore(count: number, change: () => void): boolean {
	let calls = 0;
	interceptChanges(() => {
		if (++calls >= count) throw new Error("killed");
	});
	try {
		change();
		return false;
	} catch {
		return true;
	} finally {
		interceptChanges(null);
	}
}

function ringFiles(folder: string): string[] {
	return readdirSync(join(folder, "requests")).map((name) => join(folder, "requests", name));
}

const ANSWERS: readonly Answer[] = [
	{ error: null, handle: Buffer.from("handle \xff\0 of 64 bytes, ".padEnd(64, "."), "latin1"), isFound: false },
	{ error: null, handle: null, isFound: false },
	{ error: "noent", handle: null, isFound: false },
	{ error: "noattr", handle: null, isFound: false },
	{ error: null, handle: Buffer.from("a file that was there"), isFound: true },
];

test("a request is answered again as it was answered first, before and after a restart", ROOT, (t) => {
	const { start } = fixture(t);
	let journal = start();
	ANSWERS.forEach((answer, i) => {
		assert.equal(journal.answered(request(i)), null);
		journal.answer(request(i), answer);
	});
	for (let i = 0; i < 3; i++) {
		ANSWERS.forEach((answer, xid) => {
			assert.deepEqual(journal.answered(request(xid)), answer);
		});
		journal = start();
	}
	journal.answer(request(1000), ANSWERS[0]);
	journal = start();
	assert.deepEqual(journal.answered(request(1000)), ANSWERS[0]);
	assert.deepEqual(journal.answered(request(2)), ANSWERS[2]);
});

/** The same request, taken in once more. */
function sentAgain({ request, change }: ChangeKey): ChangeKey {
	return { request: { ...request }, change };
}

test(
	"a change of a request that differs in any one number, or comes from another client, or has another number, is another one",
	ROOT,
	(t) => {
		const { start } = fixture(t);
		let journal = start();
		const known = request(0xffffffff);
		const { owner, numbers } = known.request;
		journal.answer(known, ANSWERS[1]);
		const others: ChangeKey[] = [{ request: { owner: "192.0.2.2", numbers }, change: 0 }, request(0xffffffff, { change: 255 })];
		for (let i = 0; i < numbers.length; i++) others.push({ request: { owner, numbers: numbers.with(i, 1) }, change: 0 });
		for (let i = 0; i < 2; i++) {
			assert.deepEqual(journal.answered(sentAgain(known)), ANSWERS[1]);
			for (const other of others) assert.equal(journal.answered(other), null, JSON.stringify(other));
			journal = start();
		}
	},
);

test("the changes of one request have an answer each, which outlives a restart", ROOT, (t) => {
	const { start } = fixture(t);
	const journal = start();
	const { request: one } = request(5);
	for (const [change, answer] of ANSWERS.entries()) {
		assert.equal(journal.answered({ request: one, change }), null);
		journal.answer({ request: one, change }, answer);
	}
	const again = start();
	for (const [change, answer] of ANSWERS.entries()) assert.deepEqual(again.answered(request(5, { change })), answer);
});

test(
	"a second change under the key of one that was answered throws, as long after as it may be, and one of no place in a request",
	ROOT,
	(t) => {
		const { start, setTime } = fixture(t);
		const journal = start();
		const key = request(5);
		journal.answer(key, ANSWERS[1]);
		const isMistake = (error: unknown) => error instanceof Error && !(error instanceof OverlayError) && /Two changes/.test(error.message);
		assert.throws(() => journal.answered(key), isMistake);
		assert.throws(() => journal.answered({ ...key }), isMistake);
		setTime(START + 2 * RETENTION_MS);
		assert.throws(() => journal.answered(key), isMistake);
		for (const change of [-1, 256, Number.NaN]) assert.throws(() => journal.answered({ ...key, change }), RangeError);
	},
);

test("requests that are found in one place are told apart, and forgotten one by one as their ring comes round", ROOT, (t) => {
	const { start } = fixture(t);
	// the exclusive or of the two is the same for all
	const together = [7, 5, 0, 2, 3].map((xid) => request(xid, { checksumLo: xid ^ 2 }));
	let journal = start();
	together.forEach((one, i) => {
		journal.answer(one, ANSWERS[i % ANSWERS.length]);
	});
	const left = () => together.map((one) => journal.answered(sentAgain(one)));
	const all = together.map((_, i) => ANSWERS[i % ANSWERS.length]);
	assert.deepEqual(left(), all);
	journal.answer(together[2], ANSWERS[0]);
	all[2] = ANSWERS[0];
	assert.deepEqual(left(), all);
	journal = start();
	assert.deepEqual(left(), all);
	// the third one has a newer place behind the other four
	const SLOTS = 8192;
	for (let i = together.length + 1; i < SLOTS; i++) journal.answer(request(1_000_000 + i), ANSWERS[1]);
	assert.deepEqual(left(), all);
	for (const gone of [0, 1, null, 3, 4, 2]) {
		journal.answer(request(2_000_000 + (gone ?? 9)), ANSWERS[1]);
		if (gone === null) continue;
		assert.equal(journal.answered(sentAgain(together[gone])), null);
		assert.equal(left().filter((answer) => answer !== null).length, [0, 1, 3, 4, 2].length - 1 - [0, 1, 3, 4, 2].indexOf(gone));
	}
	assert.deepEqual(journal.answered(request(2_000_000)), ANSWERS[1]);
});

test("answers are kept for a quarter of an hour, before and after a restart, and then their file goes", ROOT, (t) => {
	const { start, setTime, folder } = fixture(t);
	let journal = start();
	journal.answer(request(1), ANSWERS[0]);
	setTime(START + RETENTION_MS - 1);
	assert.deepEqual(journal.answered(request(1)), ANSWERS[0]);
	journal = start();
	assert.deepEqual(journal.answered(request(1)), ANSWERS[0]);
	journal.answer(request(2), ANSWERS[1]);
	setTime(START + RETENTION_MS + 1);
	assert.equal(journal.answered(request(1)), null);
	journal = start();
	assert.equal(journal.answered(request(1)), null);
	assert.deepEqual(journal.answered(request(2)), ANSWERS[1]);
	setTime(START + 3 * RETENTION_MS);
	start();
	assert.deepEqual(ringFiles(folder), []);
});

test("a client's ring goes round: its newest requests are known, older ones are forgotten, over a restart too", ROOT, (t) => {
	const { start, folder } = fixture(t);
	let journal = start();
	const handleOfRequest = (xid: number) => Buffer.from([xid & 0xff, xid >> 8]);
	let next = 0;
	const fill = (count: number) => {
		for (; count > 0; count--, next++) journal.answer(request(next), { error: null, handle: handleOfRequest(next), isFound: false });
	};
	const records = () => statSync(ringFiles(folder)[0]).size / RECORD_BYTES;
	do fill(1000);
	while (next === records());
	const bound = records();
	assert.ok(bound >= 4096 && bound <= 65536, `${bound}`);
	const expectNewest = () => {
		assert.equal(records(), bound);
		for (let xid = 0; xid < next; xid++) {
			const answer = journal.answered(request(xid));
			if (xid < next - bound) assert.equal(answer, null, `${xid} of ${next}`);
			else assert.ok(answer?.handle?.equals(handleOfRequest(xid)), `${xid} of ${next}`);
		}
	};
	expectNewest();
	journal = start();
	expectNewest();
	// it goes on behind the newest, not at its beginning
	fill(5);
	expectNewest();
	// and the last slot is no edge
	fill(bound - (next % bound));
	journal = start();
	expectNewest();
	fill(1);
	journal = start();
	expectNewest();
});

test("a record with any byte wrong, or cut, is forgotten, and no other one", ROOT, (t) => {
	const { start, folder } = fixture(t);
	const journal = start();
	for (let xid = 0; xid < 3; xid++) journal.answer(request(xid), ANSWERS[xid]);
	const [path] = ringFiles(folder);
	const whole = readFileSync(path);
	for (let at = 0; at < RECORD_BYTES; at++) {
		const bytes = Buffer.from(whole);
		bytes[RECORD_BYTES + at] ^= 0x10;
		writeFileSync(path, bytes);
		const again = start();
		assert.deepEqual(again.answered(request(0)), ANSWERS[0], `byte ${at}`);
		assert.equal(again.answered(request(1)), null, `byte ${at}`);
		assert.deepEqual(again.answered(request(2)), ANSWERS[2], `byte ${at}`);
	}
	writeFileSync(path, whole);
	truncateSync(path, 3 * RECORD_BYTES - 1);
	const again = start();
	assert.deepEqual([again.answered(request(0)), again.answered(request(1)), again.answered(request(2))], [ANSWERS[0], ANSWERS[1], null]);
	// the next record takes the place of the cut one
	again.answer(request(9), ANSWERS[3]);
	assert.deepEqual(start().answered(request(9)), ANSWERS[3]);
});

test(
	"a change that a kill stops before any of its calls is after the next start done or not begun, and answered if it is done",
	ROOT,
	(t) => {
		let kills = 0;
		for (let count = 1; ; count++) {
			const { start, steps, descriptors, state } = fixture(t);
			const handle = ANSWERS[0].handle;
			let journal = start();
			const change = () => {
				journal.perform(steps, descriptors, request(7), handle);
				journal.answer(request(7), ANSWERS[0]);
			};
			const wasKilled = killBefore(count, change);
			if (wasKilled) kills++;
			journal = start();
			const isBegun = count > 1;
			assert.equal(state(), isBegun ? "done" : "none", `killed before call ${count}`);
			assert.deepEqual(journal.answered(request(7)), isBegun ? ANSWERS[0] : null, `killed before call ${count}`);
			// a further start finds nothing to do
			start();
			assert.equal(state(), isBegun ? "done" : "none", `second start, killed before call ${count}`);
			if (!wasKilled) break;
		}
		// the intent, two steps, the answer
		assert.equal(kills, 4);
	},
);

test("a change that only prepares one is completed too, and answers nobody", ROOT, (t) => {
	const { start, steps, descriptors, state } = fixture(t);
	const journal = start();
	assert.ok(killBefore(3, () => journal.perform(steps, descriptors, null, null)));
	assert.equal(state(), "moved");
	start();
	assert.equal(state(), "done");
});

test(
	"an intent that says its request as an object, as was done before a request could make several changes, is completed and answered",
	ROOT,
	(t) => {
		const { start, steps, state, folder } = fixture(t);
		start();
		const { owner, numbers } = request(7).request;
		const [xid, program, version, procedure, length, checksumHi, checksumLo] = numbers;
		const former = { client: owner, xid, program, version, procedure, length, checksumHi, checksumLo };
		const bytes = Buffer.from(encodeCompact({ sequence: 1, request: former, handle: Buffer.from("made"), steps }, 12));
		bytes.fill(0, 0, 4);
		bytes[0] = 0x1e;
		bytes.writeUInt32LE(bytes.length - 12, 4);
		bytes.writeUInt32LE(crc32(bytes, 12), 8);
		writeFileSync(join(folder, "intent"), bytes);
		const journal = start();
		assert.equal(state(), "done");
		assert.deepEqual(journal.answered(request(7)), { error: null, handle: Buffer.from("made"), isFound: false });
	},
);

test("an intent that was not written whole, or has any byte wrong, was never begun", ROOT, (t) => {
	const { start, steps, descriptors, state, folder } = fixture(t);
	let journal = start();
	assert.ok(killBefore(2, () => journal.perform(steps, descriptors, request(7), null)));
	const whole = readFileSync(join(folder, "intent"));
	for (let length = 0; length < whole.length; length++) {
		writeFileSync(join(folder, "intent"), whole.subarray(0, length));
		journal = start();
		assert.equal(state(), "none", `cut to ${length}`);
		assert.equal(journal.answered(request(7)), null);
	}
	for (let at = 0; at < whole.length; at++) {
		// whether it was given up, and two bytes that mean nothing
		if (at >= 1 && at <= 3) continue;
		const bytes = Buffer.from(whole);
		bytes[at] ^= 0x04;
		writeFileSync(join(folder, "intent"), bytes);
		start();
		assert.equal(state(), "none", `byte ${at}`);
	}
	writeFileSync(join(folder, "intent"), whole);
	start();
	assert.equal(state(), "done");
});

test("a shorter intent over a longer one is understood", ROOT, (t) => {
	const { start, steps, descriptors, state } = fixture(t);
	const journal = start();
	const long: Step = { op: "count", entry: "e".repeat(200), value: 3 };
	journal.perform([long, long, long, long], descriptors, null, null);
	assert.ok(killBefore(3, () => journal.perform(steps, descriptors, null, null)));
	start();
	assert.equal(state(), "done");
});

test("a change that fails is given up: what is behind the failed step is not made at the next start either", ROOT, (t) => {
	const { start, steps, descriptors, state } = fixture(t);
	const journal = start();
	const failing: Step = { op: "unlinkWhiteout", in: "work", name: "nothing" };
	assert.throws(
		() => journal.perform([failing, ...steps], descriptors, request(7), null),
		(error) => error instanceof OverlayError && error.code === "noent",
	);
	assert.equal(state(), "none");
	assert.equal(start().answered(request(7)), null);
	assert.equal(state(), "none");
	// the next change is again one that a kill does not undo
	const again = start();
	assert.ok(killBefore(3, () => again.perform(steps, descriptors, request(8), null)));
	start();
	assert.equal(state(), "done");
});

test("a change whose answer was noted is not made again", ROOT, (t) => {
	const { start, descriptors, work } = fixture(t);
	let journal = start();
	const set = (value: number): Step => ({ op: "count", entry: "entry", value });
	const counts = new LinkCounts(work.own);
	t.after(() => counts.close());
	journal.perform([set(5)], descriptors, request(7), null);
	journal.answer(request(7), ANSWERS[1]);
	// as if done by something that leaves no intent
	counts.set("entry", 6, null);
	journal = start();
	assert.equal(counts.get("entry"), 6);
	assert.deepEqual(journal.answered(request(7)), ANSWERS[1]);
});

/** A source as a front end tells of it. */
function source(port: number) {
	return { port, isOpen: true, isOwnerConnected: true };
}

function requestOf(xid: number, by: RequestSource | null, client?: string): ChangeKey {
	const { request: one, change } = request(xid, client === undefined ? {} : { client });
	return { request: { ...one, origin: { source: by } }, change };
}

const CLIENTS_MAX = 128;

test(
	"an answer is given again by the source that brought the request, and to another one only once that is left, and then to one",
	ROOT,
	(t) => {
		const { start } = fixture(t);
		const journal = start();
		const [a, b, c] = [source(700), source(701), source(702)];
		journal.answer(requestOf(1, a), ANSWERS[1]);
		assert.deepEqual(journal.answered(requestOf(1, a)), ANSWERS[1]);
		assert.equal(journal.answered(requestOf(1, b)), null);
		journal.answer(requestOf(1, b), ANSWERS[2]);
		assert.deepEqual(journal.answered(requestOf(1, a)), ANSWERS[1]);
		assert.deepEqual(journal.answered(requestOf(1, b)), ANSWERS[2]);
		a.isOpen = false;
		assert.deepEqual(journal.answered(requestOf(1, c)), ANSWERS[1]);
		assert.equal(journal.answered(requestOf(1, source(700))), null, "it belongs to the third one now");
		c.isOpen = false;
		assert.deepEqual(journal.answered(requestOf(1, source(703))), ANSWERS[1]);
	},
);

test("over a restart equal requests of two sources are answered each by its port, and one each where the ports are others", ROOT, (t) => {
	const { start } = fixture(t);
	let journal = start();
	for (const xid of [1, 2]) {
		journal.answer(requestOf(xid, source(700)), ANSWERS[0]);
		journal.answer(requestOf(xid, source(65535)), ANSWERS[4]);
	}
	for (let restarts = 0; restarts < 2; restarts++) {
		journal = start();
		assert.deepEqual(journal.answered(requestOf(1, source(65535))), ANSWERS[4]);
		assert.deepEqual(journal.answered(requestOf(1, source(700))), ANSWERS[0]);
		assert.equal(journal.answered(requestOf(1, source(701))), null);
		const given = [800, 801, 802].map((port) => journal.answered(requestOf(2, source(port))));
		assert.equal(given[2], null);
		assert.deepEqual(
			given
				.slice(0, 2)
				.map((answer) => answer?.isFound)
				.toSorted(),
			[false, true],
		);
	}
});

test("a client that only gets errors takes no ring, and one that has changed something is told its errors again", ROOT, (t) => {
	const { start, folder } = fixture(t);
	let journal = start();
	for (let client = 0; client < 2 * CLIENTS_MAX; client++) journal.answer(requestOf(1, source(1), `198.51.100.${client}`), ANSWERS[2]);
	assert.deepEqual(ringFiles(folder), []);
	journal.answer(request(1), ANSWERS[1]);
	journal.answer(request(2), ANSWERS[2]);
	assert.equal(ringFiles(folder).length, 1);
	journal = start();
	assert.deepEqual(journal.answered(request(2)), ANSWERS[2]);
	assert.equal(journal.answered(request(1, { client: "198.51.100.1" })), null);
});

test("a further client never waits: it takes the ring of who was silent for the longest, without a connection first", ROOT, (t) => {
	const { start, setTime, folder } = fixture(t);
	let journal = start();
	const sources = Array.from({ length: CLIENTS_MAX }, (_, client) => source(1000 + client));
	for (const [client, by] of sources.entries()) journal.answer(requestOf(1, by, `client ${client}`), ANSWERS[1]);
	// a change is a use, whatever the clock says
	setTime(START - 1000);
	journal.answer(requestOf(2, sources[0], "client 0"), ANSWERS[1]);
	for (const client of [5, 9]) {
		sources[client].isOpen = false;
		sources[client].isOwnerConnected = false;
	}
	const isKnown = (client: number) => journal.answered(requestOf(1, sources[client], `client ${client}`)) !== null;
	const left = () => sources.map((_, client) => client).filter((client) => !isKnown(client));
	const gone: number[] = [];
	for (const expected of [5, 9, 1, 2]) {
		journal.answer(requestOf(1, source(1), `new ${expected}`), ANSWERS[1]);
		gone.push(expected);
		assert.deepEqual(
			left(),
			gone.toSorted((a, b) => a - b),
		);
		assert.equal(ringFiles(folder).length, CLIENTS_MAX);
	}
	// after a restart all are without a connection, and who has come again goes last
	setTime(START + 1000);
	journal = start();
	journal.answer(requestOf(9, source(1), "client 3"), ANSWERS[1]);
	for (let client = 0; client < CLIENTS_MAX - 1; client++) journal.answer(requestOf(1, source(1), `newer ${client}`), ANSWERS[1]);
	assert.equal(ringFiles(folder).length, CLIENTS_MAX);
	assert.deepEqual(journal.answered(requestOf(9, source(2), "client 3")), null, "its source is open");
	assert.notEqual(journal.answered(requestOf(1, source(2), "client 3")), null);
	assert.equal(journal.answered(requestOf(1, source(2), "client 4")), null);
});

test("more rings than are kept, as an earlier version may have left, become the newest ones at a start", ROOT, (t) => {
	const { start, setTime, folder } = fixture(t);
	const saved: [string, Buffer][] = [];
	for (let round = 0; round < 2; round++) {
		setTime(START + round);
		const journal = start();
		for (let client = 0; client < CLIENTS_MAX; client++) journal.answer(request(1, { client: `${round} ${client}` }), ANSWERS[1]);
		for (const path of ringFiles(folder)) saved.push([path, readFileSync(path)]);
	}
	for (const [path, bytes] of saved) writeFileSync(path, bytes);
	assert.ok(ringFiles(folder).length > CLIENTS_MAX);
	const journal = start();
	assert.equal(ringFiles(folder).length, CLIENTS_MAX);
	for (let client = 0; client < CLIENTS_MAX; client++)
		assert.deepEqual(journal.answered(request(1, { client: `1 ${client}` })), ANSWERS[1]);
});

test("answers of times to come are old, but for a clock that was set back a little", ROOT, (t) => {
	const { start, setTime, folder } = fixture(t);
	let journal = start();
	setTime(START + 365 * 24 * 3600 * 1000);
	journal.answer(request(1, { client: "of the future" }), ANSWERS[1]);
	setTime(START);
	assert.equal(journal.answered(request(1, { client: "of the future" })), null);
	journal = start();
	assert.equal(journal.answered(request(1, { client: "of the future" })), null);
	assert.deepEqual(ringFiles(folder), []);
	journal.answer(request(1), ANSWERS[1]);
	setTime(START - 1000);
	assert.deepEqual(journal.answered(request(1)), ANSWERS[1]);
	journal = start();
	assert.deepEqual(journal.answered(request(1)), ANSWERS[1]);
});

test("a change of a client whose ring cannot be made is made once, and its answer known over starts, from the log", ROOT, (t) => {
	const { start, steps, descriptors, state, folder } = fixture(t);
	let journal = start();
	// where the file would be is a folder
	const inTheWay = join(folder, "requests", createHash("sha256").update("192.0.2.1").digest("hex").slice(0, 24));
	mkdirSync(inTheWay);
	journal.perform(steps, descriptors, request(7), null);
	journal.answer(request(7), ANSWERS[1]);
	assert.equal(state(), "done");
	assert.deepEqual(journal.answered(sentAgain(request(7))), ANSWERS[1]);
	rmdirSync(inTheWay);
	for (let starts = 0; starts < 2; starts++) {
		journal = start();
		assert.equal(state(), "done");
		assert.deepEqual(journal.answered(request(7)), ANSWERS[1]);
	}
});

test("records of earlier versions, with the time as a double and without a port, are read", ROOT, (t) => {
	const { start, folder } = fixture(t);
	start().answer(requestOf(1, source(700)), ANSWERS[0]);
	const [path] = ringFiles(folder);
	const bytes = readFileSync(path);
	bytes[0] = 0xa7;
	bytes.writeDoubleLE(START, 40);
	bytes.writeUInt32LE(crc32(bytes, 0, 124), 124);
	writeFileSync(path, bytes);
	let journal = start();
	assert.deepEqual(journal.answered(requestOf(1, source(700))), ANSWERS[0]);
	assert.equal(journal.answered(requestOf(1, source(701))), null);
	journal.answer(requestOf(2, source(701)), ANSWERS[1]);
	journal = start();
	assert.deepEqual(journal.answered(requestOf(1, source(9))), ANSWERS[0]);
	assert.deepEqual(journal.answered(requestOf(2, source(9))), ANSWERS[1]);
});

test("an answer that a recovery noted is still known after a second restart", ROOT, (t) => {
	const { start, steps, descriptors } = fixture(t);
	const journal = start();
	assert.ok(killBefore(3, () => journal.perform(steps, descriptors, request(7), null)));
	assert.deepEqual(start().answered(request(7)), ANSWERS[1]);
	assert.deepEqual(start().answered(request(7)), ANSWERS[1]);
});

test("a request number that a client came to again is known by its newer answer until that is overwritten", ROOT, (t) => {
	const { start, setTime, folder } = fixture(t);
	let journal = start();
	journal.answer(request(7), ANSWERS[0]);
	setTime(START + RETENTION_MS + 1);
	journal.answer(request(7), ANSWERS[1]);
	assert.deepEqual(journal.answered(request(7)), ANSWERS[1]);
	journal = start();
	assert.deepEqual(journal.answered(request(7)), ANSWERS[1]);
	// the slot of the older one is used again
	let next = 1000;
	do journal.answer(request(next++), ANSWERS[1]);
	while (next - 1000 + 2 === statSync(ringFiles(folder)[0]).size / RECORD_BYTES);
	assert.deepEqual(journal.answered(request(7)), ANSWERS[1]);
	journal.answer(request(next++), ANSWERS[1]);
	assert.equal(journal.answered(request(7)), null);
});

test("an answer that came to the disk before the change that it tells of counts as not given, and never comes back", {
	skip: needs("root") || cannotMount("ext4"),
}, (t) => {
	const change = (journal: Journal, descriptors: Descriptors, xid: number) => {
		journal.perform([{ op: "count", entry: "entry", value: xid }], descriptors, request(xid), null);
		journal.answer(request(xid), ANSWERS[1]);
	};
	const { start, descriptors, folder } = fixture(t, "ext4");
	let journal = start();
	change(journal, descriptors, 1);
	journal.answer(request(2), ANSWERS[2]);
	change(journal, descriptors, 3);
	const written = [...ringFiles(folder), join(folder, "answers")].map((path) => [path, readFileSync(path)] as const);
	// the disk as it is when the power fails after rings and log were written out, and before the change of request 3 is committed
	const intents = join(folder, "intents");
	const lost = readdirSync(intents).map((name) => [join(intents, name), xattrOf(join(intents, name))] as const);
	const newest = lost.reduce((a, b) => (sequenceIn(b[1]) > sequenceIn(a[1]) ? b : a));
	setXattrOf(newest[0], Buffer.alloc(1));
	for (const [path, bytes] of written) writeFileSync(path, bytes);
	for (let i = 0; i < 2; i++) {
		journal = start();
		assert.deepEqual(journal.answered(request(1)), ANSWERS[1]);
		assert.deepEqual(journal.answered(request(2)), ANSWERS[2]);
		assert.equal(journal.answered(request(3)), null);
	}
	for (const xid of [4, 5, 6]) change(journal, descriptors, xid);
	journal = start();
	assert.equal(journal.answered(request(3)), null);
	for (const xid of [1, 4, 5, 6]) assert.deepEqual(journal.answered(request(xid)), ANSWERS[1]);
});

const SLOT_XATTR = "trusted.holdfast";

function xattrOf(path: string): Buffer {
	const fd = openPath(path, O.rdonly);
	const value = getXattr(fd, SLOT_XATTR);
	close(fd);
	return typeof value === "number" ? Buffer.alloc(0) : value;
}

function setXattrOf(path: string, value: Buffer): void {
	const fd = openPath(path, O.rdonly);
	assert.equal(setXattr(fd, SLOT_XATTR, value), 0);
	close(fd);
}

/** Of the first part of a slot: in its header of 8 bytes, a record of fields, the first of them a small number. */
function sequenceIn(part: Buffer): number {
	return part[0] === 0x21 ? part[11] & 0x7f : -1;
}

for (const kind of ["tmpfs", "ext4"] as const) {
	test(`on ${kind} what there is no room to complete waits beside later changes, over restarts, and keeps others away from its objects`, {
		skip: needs("root") || cannotMount(kind),
	}, (t) => {
		const { start, descriptors, steps, state } = fixture(t, kind);
		const other: Step[] = [{ op: "count", entry: "e".repeat(20), value: 3 }];
		let journal = start();
		let count = 1;
		for (; state() === "none"; count++) killBefore(count, () => journal.perform(steps, descriptors, request(1), Buffer.from("handle")));
		assert.equal(state(), "moved");
		const full = (...names: string[]) => interceptChanges((name) => (names.includes(name) ? ERRNO.ENOSPC : undefined));
		const code = (expected: string) => (error: unknown) => error instanceof OverlayError && error.code === expected;
		try {
			full("setxattr");
			assert.throws(() => start(), code("nospc"), "a command that may not leave it");
			// not even for its record: then it would be lost to the next change
			full("setxattr", "pwrite");
			journal = start(true);
			assert.equal(journal.postponed.length, 1);
			assert.throws(() => journal.perform(other, descriptors, request(2), null), code("nospc"));
			full("setxattr");
			journal = start(true);
			for (let xid = 3; xid < 8; xid++) {
				journal.perform(other, descriptors, request(xid), null);
				journal.answer(request(xid), ANSWERS[1]);
				if (xid % 2 === 0) journal = start(true);
			}
			assert.throws(() => journal.perform([steps[1]], descriptors, request(9), null), code("tryagain"));
			assert.throws(() => journal.answered(request(1)), code("tryagain"), "sent again it has no answer yet");
			assert.deepEqual(journal.finishPostponed(), []);
			assert.equal(state(), "moved");
		} finally {
			interceptChanges(null);
		}
		if (kind === "tmpfs") {
			assert.equal(journal.finishPostponed().length, 1);
		} else journal = start();
		assert.equal(journal.postponed.length, 0);
		assert.equal(state(), "done");
		assert.deepEqual(journal.answered(request(1))?.handle, Buffer.from("handle"));
		journal = start();
		assert.deepEqual(journal.answered(request(1))?.handle, Buffer.from("handle"));
	});
}

for (const kind of ["ext4", "xfs", "btrfs", "tmpfs"] as const) {
	test(`answers that there is no room for in a ring are known from the log, over starts on a full disk: ${kind}`, {
		skip: needs("root") || cannotMount(kind),
	}, (t) => {
		const { start, descriptors, folder } = fixture(t, kind);
		const steps: Step[] = [{ op: "count", entry: "e".repeat(20), value: 3 }];
		let journal = start();
		const fails = (which: (write: number) => boolean) => {
			let writes = 0;
			interceptChanges((name) => (name === "pwrite" && which(writes++) ? ERRNO.ENOSPC : undefined));
		};
		try {
			for (const xid of [1, 2, 3]) {
				journal.perform(steps, descriptors, request(xid), null);
				// first the ring, then the log
				fails((write) => write === 0);
				journal.answer(request(xid), ANSWERS[1]);
				interceptChanges(null);
			}
			for (const isGone of [false, false, true]) {
				if (isGone) for (const ring of ringFiles(folder)) unlinkSync(ring);
				fails(() => true);
				journal = start();
				for (const xid of [1, 2, 3]) assert.deepEqual(journal.answered(request(xid)), ANSWERS[1]);
			}
		} finally {
			interceptChanges(null);
		}
		journal = start();
		for (const xid of [1, 2, 3]) assert.deepEqual(journal.answered(request(xid)), ANSWERS[1]);
		assert.equal(journal.answered(request(4)), null);
	});
}

for (const kind of ["ext4", "xfs", "btrfs", "tmpfs"] as const) {
	test(`answers that are given on a disk without a byte left are known after a start: ${kind}`, {
		skip: needs("root") || cannotMount(kind),
	}, (t) => {
		const { start, folder } = fixture(t, kind);
		let journal = start();
		journal.answer(request(0), ANSWERS[1]);
		const filler = fs.openSync(join(folder, "filler"), "w");
		let size = 0;
		for (let piece = 1 << 22; piece >= 4096; piece /= 2) while (allocateRange(filler, 0, size, piece) === 0) size += piece;
		fs.closeSync(filler);
		// more than a page of any ring has
		const xids = Array.from({ length: 100 }, (_, i) => i + 1);
		for (const xid of xids) journal.answer(request(xid), ANSWERS[1]);
		for (let starts = 0; starts < 2; starts++) {
			journal = start();
			assert.deepEqual(
				xids.filter((xid) => journal.answered(request(xid)) === null),
				[],
			);
		}
	});
}

test("a file of the journal that cannot be opened for a moment loses nothing", ROOT, (t) => {
	const { start } = fixture(t);
	const { openSync } = fs;
	let journal = start();
	for (let xid = 1; xid < 4; xid++) journal.answer(request(xid), ANSWERS[1]);
	for (const code of ["EMFILE", "EIO", "EACCES", "EROFS"] as const) {
		for (const file of ["requests", "intent", "postponed"]) {
			fs.openSync = (path, ...given) => {
				if (!String(path).includes(`/holdfast/${file}`)) return openSync(path, ...given);
				throw Object.assign(new Error(`${code}: it cannot, open '${path}'`), { code, errno: -ERRNO[code], syscall: "open", path });
			};
			syncBuiltinESMExports();
			try {
				assert.throws(start, new RegExp(code), file);
			} finally {
				fs.openSync = openSync;
				syncBuiltinESMExports();
			}
			journal = start();
			for (let xid = 1; xid < 4; xid++) assert.deepEqual(journal.answered(request(xid)), ANSWERS[1], `${code} of ${file}`);
		}
	}
});
