/** Promise: a compound of NFSv4.1 that is stopped before any call that changes the disk is done once, and sent again it gets its first outcome. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { interceptChanges } from "../../src/linux/libc.ts";
import { Op } from "../../src/nfs4/protocol.ts";
import { Status } from "../../src/nfs4/status.ts";
import { xdr } from "../../src/rpc/rpc-client.test-support.ts";
import {
	ANONYMOUS,
	bitmap,
	bytesOf,
	type CompoundReply,
	CURRENT,
	fattr,
	NO_ATTRIBUTES,
	OK,
	pass,
	ROOT_STEP,
	type Step,
	stateidOf,
} from "../../src/server/nfs4-client.test-support.ts";
import { full, needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { Served } from "./compound-server.ts";
import { CrashError, Lowers } from "./stage.ts";

const skip = needs("root");
const [UNCHECKED, GUARDED, EXCLUSIVE] = [0, 1, 3];
const [SIZE, MODE] = [4, 33];
const FILE_SYNC = 2;
/** Of the calls of a compound one of so many is tried, but in `npm run test:all`. */
const STRIDE = full ? 1 : 3;

type Prepare = (served: Served) => Promise<readonly Step[]>;

function opening(name: string, mode: number | null, ...more: readonly (readonly [number, number | { raw: Buffer }])[]): Step {
	const head: Step = [Op.open, 0, 3, 0, 0, 0, "owner"];
	if (mode === null) return [...head, 0, 0, name];
	const attributes = fattr(...more, [MODE, 0o640]);
	return mode === EXCLUSIVE
		? [...head, 1, mode, { raw: Buffer.from("verifier") }, attributes, 0, name]
		: [...head, 1, mode, attributes, 0, name];
}

const SIZES = bitmap(SIZE, MODE);
const READING: Step = [Op.read, ANONYMOUS, 0, 0, 100];
const close: Step = [Op.close, 0, CURRENT];
const lookup = (name: string): Step => [Op.lookup, name];
const write = (text: string, stable = FILE_SYNC): Step => [Op.write, ANONYMOUS, 0, 0, stable, text];
const plain =
	(...steps: readonly Step[]): Prepare =>
	async () =>
		steps;

/** Opens a file beforehand; `then` makes the compound of its stateid. */
const withOpen =
	(name: string, then: (open: { raw: Buffer }, served: Served) => readonly Step[] | Promise<readonly Step[]>): Prepare =>
	async (served) => {
		const { reader } = await served.run(ROOT_STEP, opening(name, null));
		pass(reader, Op.putrootfh, Op.open);
		return then(stateidOf(reader), served);
	};

const locking = (open: { raw: Buffer }): Step => [Op.lock, 2, 0, 0, 5, 0, 9, 1, 0, open, 0, 0, 0, "locker"];

const COMPOUNDS: readonly (readonly [string, Prepare])[] = [
	["OPEN that makes a file", plain(ROOT_STEP, opening("new", UNCHECKED), [Op.getfh])],
	["OPEN, guarded, and CLOSE", plain(ROOT_STEP, opening("new", GUARDED), [Op.write, CURRENT, 0, 0, FILE_SYNC, "text"], close)],
	["OPEN, exclusive, below a directory that is copied up", plain(ROOT_STEP, lookup("d"), lookup("sub"), opening("new", EXCLUSIVE))],
	["OPEN that cuts a file of a lower", plain(ROOT_STEP, opening("file", UNCHECKED, [SIZE, { raw: xdr(0, 0) }]))],
	["OPEN of a file that is there", plain(ROOT_STEP, opening("file", UNCHECKED), close)],
	["CREATE of a directory", plain(ROOT_STEP, lookup("d"), [Op.create, 2, "new", NO_ATTRIBUTES])],
	["CREATE of a symlink", plain(ROOT_STEP, [Op.create, 5, "target", "new", NO_ATTRIBUTES])],
	["REMOVE of a file", plain(ROOT_STEP, lookup("d"), [Op.remove, "in"])],
	["REMOVE of a directory", plain(ROOT_STEP, [Op.remove, "empty"])],
	["REMOVE of one of several names", plain(ROOT_STEP, lookup("links"), [Op.remove, "one"])],
	["REMOVE of a file that is open", withOpen("file", () => [ROOT_STEP, [Op.remove, "file"]])],
	["RENAME over another file", plain(ROOT_STEP, lookup("d"), [Op.savefh], ROOT_STEP, [Op.rename, "in", "file"])],
	["RENAME of a directory", plain(ROOT_STEP, [Op.savefh], [Op.rename, "merged", "moved"])],
	["LINK", plain(ROOT_STEP, lookup("file"), [Op.savefh], ROOT_STEP, [Op.link, "linked"])],
	["SETATTR of a mode", plain(ROOT_STEP, lookup("file"), [Op.setattr, ANONYMOUS, fattr([MODE, 0o604])])],
	["SETATTR of a size", plain(ROOT_STEP, lookup("file"), [Op.setattr, ANONYMOUS, fattr([SIZE, { raw: xdr(0, 3) }])])],
	["WRITE", plain(ROOT_STEP, lookup("file"), write("WRITTEN"))],
	["WRITE and COMMIT", plain(ROOT_STEP, lookup("file"), write("WRITTEN", 0), [Op.commit, 0, 0, 0])],
	[
		"several changes",
		plain(
			ROOT_STEP,
			[Op.create, 2, "a", NO_ATTRIBUTES],
			opening("b", GUARDED),
			close,
			ROOT_STEP,
			[Op.remove, "file2"],
			[Op.create, 2, "c", NO_ATTRIBUTES],
		),
	],
	[
		"OPEN, SETATTR of a size and CLOSE",
		plain(ROOT_STEP, opening("new", UNCHECKED), [Op.setattr, CURRENT, fattr([SIZE, { raw: xdr(0, 9) }])], close),
	],
	[
		"LOCK, WRITE, LOCKU and CLOSE",
		withOpen("file", (open) => {
			const writing: Step = [Op.write, CURRENT, 0, 0, FILE_SYNC, "text"];
			const unlocking: Step = [Op.locku, 2, 0, CURRENT, 0, 5, 0, 9];
			return [ROOT_STEP, lookup("file"), locking(open), writing, unlocking, [Op.close, 0, open]];
		}),
	],
	["LOCK", withOpen("file", (open) => [ROOT_STEP, lookup("file"), locking(open)])],
	[
		"OPEN_DOWNGRADE",
		withOpen("file", async (open, served) => {
			await served.run(ROOT_STEP, [Op.open, 0, 1, 0, 0, 0, "owner", 0, 0, "file"]);
			return [ROOT_STEP, lookup("file"), [Op.openDowngrade, { raw: Buffer.concat([Buffer.alloc(4), open.raw.subarray(4)]) }, 0, 1, 0]];
		}),
	],
	[
		"LOOKUP, GETATTR, READ and REMOVE of one name",
		plain(ROOT_STEP, lookup("file"), [Op.getattr, SIZES], READING, ROOT_STEP, [Op.remove, "file"]),
	],
	[
		"VERIFY and SETATTR of a size",
		plain(
			ROOT_STEP,
			lookup("file"),
			[Op.verify, fattr([SIZE, { raw: xdr(0, 8) }])],
			[Op.setattr, ANONYMOUS, fattr([SIZE, { raw: xdr(0, 3) }])],
		),
	],
	[
		"changes of what was looked at, one after the other",
		plain(
			ROOT_STEP,
			lookup("d"),
			[Op.savefh],
			lookup("in"),
			[Op.getattr, SIZES],
			ROOT_STEP,
			[Op.rename, "in", "out"],
			lookup("out"),
			[Op.getattr, SIZES],
			ROOT_STEP,
			[Op.remove, "out"],
			[Op.create, 2, "out", NO_ATTRIBUTES],
			[Op.lookupp],
			lookup("out"),
			[Op.access, 63],
			ROOT_STEP,
			[Op.remove, "out"],
		),
	],
	["WRITE, COMMIT and REMOVE", plain(ROOT_STEP, lookup("file"), write("WRITTEN", 0), [Op.commit, 0, 0, 0], ROOT_STEP, [Op.remove, "file"])],
	["CLOSE", withOpen("file", (open) => [ROOT_STEP, lookup("file"), [Op.close, 0, open]])],
	[
		"CLOSE of a file that has no name any more",
		withOpen("file", async (open, served) => {
			const { reader } = await served.run(ROOT_STEP, lookup("file"), [Op.getfh], ROOT_STEP, [Op.remove, "file"]);
			pass(reader, Op.putrootfh, Op.lookup, Op.getfh);
			return [
				[Op.putfh, bytesOf(reader)],
				[Op.close, 0, open],
			];
		}),
	],
];

let serial = 0;

/** Runs a compound up to the call of this number, kills the server, and sends it again, and once more after another kill. Whether it came to its end. */
async function stopAt(
	lowers: Lowers,
	prepare: Prepare,
	limit: number,
	expected: unknown,
): Promise<{ readonly calls: number; readonly seen: unknown }> {
	const served = await new Served(lowers, `stage ${serial++}`).start().connect();
	const steps = served.next(await prepare(served));
	let calls = 0;
	let isStopped = false;
	interceptChanges((name) => {
		if (calls >= limit) {
			isStopped = true;
			throw new CrashError(`before ${name}, call ${limit}`);
		}
		calls++;
	});
	const first = await served.send(steps, () => isStopped).finally(() => interceptChanges(null));
	const seen = isStopped ? expected : await served.seen();
	if (!isStopped) assert.equal(first?.status, OK);
	for (let repetition = 0; repetition < 2; repetition++) {
		served.kill();
		served.start();
		const again = await served.send(steps);
		assert.deepEqual([again?.status, again?.count], [OK, steps.length], `stopped before call ${limit}, sent again ${repetition + 1} times`);
		assert.deepEqual(await served.seen(), seen, `stopped before call ${limit}, sent again ${repetition + 1} times`);
	}
	// the session goes on
	await served.run(ROOT_STEP, [Op.create, 2, "next", NO_ATTRIBUTES]);
	served.kill();
	served.stage.remove();
	return { calls, seen };
}

test("a compound that is stopped before any call is done once, and sent again it gets its first outcome", {
	skip,
}, async (t: TestContext) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	const before = lowers.inodes();
	for (const [index, [name, prepare]] of COMPOUNDS.entries()) {
		await t.test(name, async (t) => {
			const { calls, seen } = await stopAt(lowers, prepare, Number.POSITIVE_INFINITY, null);
			for (let limit = index % STRIDE; limit < calls; limit += STRIDE) await stopAt(lowers, prepare, limit, seen);
			t.diagnostic(`${calls} calls`);
		});
	}
	assert.equal(lowers.inodes(), before);
});

/** A WRITE is done again by the client, in a session that lives. */
const ANSWERED = COMPOUNDS.filter(([name]) => !/WRITE|SETATTR of a size and|guarded/.test(name));

test("in another boot of the host the compound gets its first outcome too, and its session nothing new", {
	skip,
}, async (t: TestContext) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	for (const [name, prepare] of ANSWERED) {
		const served = await new Served(lowers, `stage ${serial++}`).start().connect();
		const steps = served.next(await prepare(served));
		const { status } = (await served.send(steps)) as CompoundReply;
		assert.equal(status, OK, name);
		served.kill();
		served.start("boot 2");
		const seen = await served.seen();
		for (let repetition = 0; repetition < 2; repetition++) {
			const again = await served.send(steps);
			assert.deepEqual([again?.status, again?.count], [OK, steps.length], name);
		}
		const other = await served.send(served.next([ROOT_STEP]));
		assert.deepEqual([other?.status, other?.count], [Status.deadsession, 1], name);
		assert.deepEqual(await served.seen(), seen, name);
		served.kill();
		served.stage.remove();
	}
});
