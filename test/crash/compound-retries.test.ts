/** Promise: a compound of NFSv4.1 that is sent again after a kill gets its first outcome, whatever it has changed itself, and whatever others have done since. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Op } from "../../src/nfs4/protocol.ts";
import { Status } from "../../src/nfs4/status.ts";
import { xdr } from "../../src/rpc/rpc-client.test-support.ts";
import {
	ANONYMOUS,
	bitmap,
	bytesOf,
	type CompoundReply,
	CURRENT,
	changeInfo,
	fattr,
	NO_ATTRIBUTES,
	next,
	OK,
	pass,
	passSequence,
	ROOT_STEP,
	type Step,
} from "../../src/server/nfs4-client.test-support.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { Served } from "./compound-server.ts";
import { Lowers } from "./stage.ts";

const skip = needs("root");
const [SIZE, MODE] = [4, 33];
const ATTRIBUTES: Step = [Op.getattr, bitmap(SIZE, MODE)];
const lookup = (name: string): Step => [Op.lookup, name];
const remove = (name: string): Step => [Op.remove, name];
const size = (bytes: number) => fattr([SIZE, { raw: xdr(0, bytes) }]);
const opening = (name: string): Step => [Op.open, 0, 3, 0, 0, 0, "owner", 1, 0, fattr([MODE, 0o640]), 0, name];
/** change_info4 of two directories. */
const CHANGES_BYTES = 40;
const READING: Step = [Op.read, ANONYMOUS, 0, 0, 100];

/** All behind SEQUENCE, but for what the last operation tells of its change. */
function restOf({ reader }: CompoundReply): string {
	passSequence(reader);
	return Buffer.from(reader.bytes.subarray(reader.position, reader.end - CHANGES_BYTES)).toString("hex");
}

test("what a compound has looked at before a change is in the reply of its retry as it was", { skip }, async (t: TestContext) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	const compounds: readonly (readonly Step[])[] = [
		[ROOT_STEP, lookup("file"), ATTRIBUTES, READING, ROOT_STEP, remove("file")],
		[ROOT_STEP, lookup("file"), [Op.verify, size(8)], [Op.setattr, ANONYMOUS, size(3)]],
		[ROOT_STEP, lookup("file"), [Op.nverify, size(3)], [Op.setattr, ANONYMOUS, size(3)]],
		[ROOT_STEP, lookup("d"), [Op.savefh], lookup("in"), ATTRIBUTES, [Op.restorefh], remove("in")],
		[ROOT_STEP, lookup("d"), [Op.readdir, 0, 0, { raw: Buffer.alloc(8) }, 0, 4000, bitmap(SIZE)], remove("in")],
		[ROOT_STEP, lookup("sym"), [Op.readlink], ROOT_STEP, remove("sym")],
		[ROOT_STEP, [Op.secinfo, "file"], ROOT_STEP, remove("file")],
		[ROOT_STEP, lookup("file"), [Op.write, ANONYMOUS, 0, 0, 2, "WRITTEN"], [Op.commit, 0, 0, 0], ROOT_STEP, remove("file")],
		[ROOT_STEP, lookup("d"), [Op.access, 63], [Op.lookupp], [Op.rename, "d", "e"]].toSpliced(4, 0, [Op.savefh]) as Step[],
		[ROOT_STEP, opening("new"), ATTRIBUTES, [Op.close, 0, CURRENT], ROOT_STEP, lookup("new"), ROOT_STEP, remove("new")],
	];
	for (const [index, compound] of compounds.entries()) {
		const served = await new Served(lowers, `looking ${index}`).start().connect();
		const steps = served.next(compound);
		const first = (await served.send(steps)) as CompoundReply;
		assert.deepEqual([first.status, first.count], [OK, steps.length], `${index}`);
		const expected = restOf(first);
		for (let repetition = 0; repetition < 3; repetition++) {
			served.kill();
			served.start();
			const again = (await served.send(steps)) as CompoundReply;
			assert.deepEqual([again.status, restOf(again)], [OK, expected], `${index}`);
		}
		served.kill();
		served.stage.remove();
	}
});

test("a retry is not run again where too much was read before the change, and its reply was not to be kept", { skip }, async (t) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	const served = await new Served(lowers, "much").start().connect();
	const content = Buffer.alloc(9000, "x");
	await served.run(ROOT_STEP, opening("long"), [Op.write, CURRENT, 0, 0, 2, content], [Op.close, 0, CURRENT]);
	const reading: Step = [Op.read, ANONYMOUS, 0, 0, 9000];
	const [[sequence, ...keeping], ...others] = served.next([ROOT_STEP, lookup("long"), reading, ROOT_STEP, remove("long")]);
	const steps: Step[] = [[sequence, ...keeping.slice(0, -1), false], ...others];
	assert.equal((await served.send(steps))?.status, OK);
	for (let repetition = 0; repetition < 2; repetition++) {
		served.kill();
		served.start();
		assert.equal((await served.send(steps))?.status, Status.retryUncachedRep);
	}
	await served.run(ROOT_STEP, [Op.create, 2, "next", NO_ATTRIBUTES]);
	served.kill();
});

test("a change that was made is told again whatever others have done to its directory and its object since", {
	skip,
}, async (t: TestContext) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	const handleOf = async (served: Served, ...names: readonly string[]): Promise<Step> => {
		const { reader } = await served.run(ROOT_STEP, ...names.map(lookup), [Op.getfh]);
		pass(reader, Op.putrootfh, ...names.map(() => Op.lookup), Op.getfh);
		return [Op.putfh, bytesOf(reader)];
	};
	const gone: readonly Step[] = [ROOT_STEP, lookup("work"), remove("inside"), ROOT_STEP, remove("work")];
	/** The compound, and what another does between the kill and the retry. */
	const cases: readonly (readonly [string, compound: (directory: Step, file: Step) => readonly Step[], meanwhile: readonly Step[]])[] = [
		["REMOVE", (directory) => [directory, remove("inside")], [ROOT_STEP, remove("work")]],
		[
			"RENAME",
			(directory) => [directory, [Op.savefh], [Op.rename, "inside", "other"]],
			[ROOT_STEP, lookup("work"), remove("other"), ROOT_STEP, remove("work")],
		],
		[
			"LINK",
			(directory, file) => [file, [Op.savefh], directory, [Op.link, "other"]],
			[ROOT_STEP, lookup("work"), remove("other"), remove("inside"), ROOT_STEP, remove("work")],
		],
		[
			"CREATE",
			(directory) => [directory, [Op.create, 2, "made", NO_ATTRIBUTES], [Op.getfh]],
			[ROOT_STEP, lookup("work"), remove("made"), remove("inside"), ROOT_STEP, remove("work")],
		],
		["SETATTR", (_, file) => [file, [Op.setattr, ANONYMOUS, size(3)]], gone],
		[
			"OPEN and CLOSE",
			(directory) => [directory, opening("new"), [Op.getfh], [Op.close, 0, CURRENT]],
			[ROOT_STEP, lookup("work"), remove("new"), remove("inside"), ROOT_STEP, remove("work")],
		],
		[
			"OPEN, LOCK and CLOSE",
			(directory) => [
				directory,
				opening("inside"),
				[Op.savefh],
				[Op.lock, 2, 0, 0, 5, 0, 9, 1, 0, CURRENT, 0, 0, 0, "locker"],
				[Op.restorefh],
				[Op.close, 0, CURRENT],
			],
			gone,
		],
		[
			"by names from the root",
			() => [ROOT_STEP, lookup("work"), remove("inside")],
			[ROOT_STEP, [Op.savefh], [Op.rename, "work", "elsewhere"]],
		],
		[
			"REMOVE in a directory that is closed to all",
			(directory) => [directory, remove("inside")],
			[ROOT_STEP, lookup("work"), [Op.setattr, ANONYMOUS, fattr([MODE, 0])]],
		],
	];
	for (const [name, compound, meanwhile] of cases) {
		await t.test(name, async () => {
			const served = await new Served(lowers, name).start().connect();
			await served.run(ROOT_STEP, [Op.create, 2, "work", NO_ATTRIBUTES], opening("inside"), [Op.close, 0, CURRENT]);
			const directory = await handleOf(served, "work");
			const file = await handleOf(served, "work", "inside");
			const steps = served.next(compound(directory, file));
			const first = (await served.send(steps)) as CompoundReply;
			assert.deepEqual([first.status, first.count], [OK, steps.length]);
			served.kill();
			served.start();
			const other: Step = [Op.sequence, { raw: served.session }, 1, 1, 1, false];
			const between = await served.send([other, ...meanwhile]);
			assert.deepEqual([between?.status, between?.count], [OK, meanwhile.length + 1]);
			for (let repetition = 0; repetition < 2; repetition++) {
				const again = (await served.send(steps)) as CompoundReply;
				assert.deepEqual([again.status, again.count], [OK, steps.length]);
				if (name === "REMOVE") {
					passSequence(again.reader);
					pass(again.reader, Op.putfh, Op.remove);
					assert.equal(changeInfo(again.reader).atomic, false);
				}
				served.kill();
				served.start();
			}
			served.kill();
			served.stage.remove();
		});
	}
});

test("a failure is told again as it was", { skip }, async (t: TestContext) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	const served = await new Served(lowers, "failing").start().connect();
	const steps = served.next([ROOT_STEP, lookup("d"), ATTRIBUTES, ROOT_STEP, remove("d")]);
	const first = (await served.send(steps)) as CompoundReply;
	assert.equal(first.status, Status.notempty);
	served.kill();
	served.start();
	const again = (await served.send(steps)) as CompoundReply;
	assert.deepEqual([again.status, again.count], [first.status, first.count]);
	passSequence(again.reader);
	assert.deepEqual(next(again.reader), [Op.putrootfh, OK]);
	served.kill();
});
