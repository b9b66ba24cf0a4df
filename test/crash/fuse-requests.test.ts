/** Promise: a request of a mount that is stopped before any call that changes the disk is done once, and the next server answers it as if nothing had happened. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { FakeKernel, type FuseAnswer, name, words } from "../../src/fuse/fake-kernel.test-support.ts";
import {
	KEPT_BYTES,
	LARGE_SLOT_BYTES,
	LARGE_SLOTS,
	LARGE_SLOTS_AT,
	NODE_BYTES,
	NODES_AT,
	SMALL_SLOT_BYTES,
} from "../../src/fuse/kept-layout.ts";
import { Opcode } from "../../src/fuse/protocol.ts";
import { FuseSession } from "../../src/fuse/session.ts";
import { interceptChanges } from "../../src/linux/libc.ts";
import { close } from "../../src/linux/open.ts";
import { makeSharedMemory, mapShared } from "../../src/linux/shared-memory.ts";
import { full, needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { CrashError, type Keeping, Lowers, Stage } from "./stage.ts";

const skip = needs("root");
const ROOT = 1;
/** Of the calls of a request one of so many is tried, but in `npm run test:all`. */
const STRIDE = full ? 1 : 3;
const S_IFREG = 0o100000;
const S_IFIFO = 0o010000;

/** What the kernel asks: opcode, the object, and arguments that may name further objects. */
type Asked = readonly [opcode: number, path: string, args: (id: (path: string) => number) => Buffer];

const io = (bytes: number) => words(0, 0, 0, 0, bytes, 0, 0, 0, 0, 0);
const setting = (valid: number, { size = 0, mode = 0 }) => words(valid, 0, 0, 0, size, 0, ...new Array(11).fill(0), mode, 0, 0, 0, 0);
/** The path of what has none: it is made by TMPFILE. */
const UNNAMED = "without a name";
const named = (...parts: readonly (Buffer | string)[]) =>
	Buffer.concat(parts.map((part) => (typeof part === "string" ? name(part) : part)));

const REQUESTS: readonly (readonly [string, ...Asked])[] = [
	["CREATE", Opcode.create, "", () => named(words(0o302, S_IFREG | 0o640, 0, 0), "new")],
	["CREATE below a directory that is copied up", Opcode.create, "d/sub", () => named(words(0o302, S_IFREG | 0o640, 0, 0), "new")],
	["MKNOD of a file", Opcode.mknod, "", () => named(words(S_IFREG | 0o640, 0, 0, 0), "new")],
	["MKNOD of a pipe", Opcode.mknod, "d", () => named(words(S_IFIFO | 0o640, 0, 0, 0), "new")],
	["MKDIR", Opcode.mkdir, "merged", () => named(words(0o750, 0), "new")],
	["SYMLINK", Opcode.symlink, "d", () => named("new", "target")],
	["LINK of a lower file", Opcode.link, "d", (id) => named(words(id("file"), 0), "linked")],
	["UNLINK", Opcode.unlink, "d", () => name("in")],
	["UNLINK of a file that the kernel knows", Opcode.unlink, "d", (id) => (id("d/in") < 0 ? Buffer.alloc(0) : name("in"))],
	["UNLINK of one of several names", Opcode.unlink, "links", () => name("one")],
	["RMDIR", Opcode.rmdir, "", () => name("empty")],
	["RENAME over another file", Opcode.rename, "d", (id) => named(words(id(""), 0), "in", "file")],
	["RENAME of a directory", Opcode.rename, "", (id) => named(words(id("d2"), 0), "merged", "moved")],
	["RENAME2 to a name that is new", Opcode.rename2, "d", (id) => named(words(id(""), 0, 1, 0), "in", "new")],
	["RENAME2 that exchanges", Opcode.rename2, "d", (id) => named(words(id(""), 0, 2, 0), "in", "file")],
	["TMPFILE", Opcode.tmpfile, "d", () => named(words(0o20200002, S_IFREG | 0o640, 0, 0), "/")],
	["LINK of a file without a name", Opcode.link, "d", (id) => named(words(id(UNNAMED), 0), "named")],
	["SETATTR of a mode", Opcode.setattr, "file", () => setting(1, { mode: 0o604 })],
	["SETATTR of a size", Opcode.setattr, "file", () => setting(8, { size: 3 })],
	["SETXATTR", Opcode.setxattr, "file", () => named(words(5, 1, 0, 0), "user.new", Buffer.from("value"))],
	["REMOVEXATTR", Opcode.removexattr, "file", () => name("user.lower")],
	["WRITE", Opcode.write, "file", () => named(io(7), Buffer.from("WRITTEN"))],
	["FALLOCATE", Opcode.fallocate, "file", () => words(0, 0, 2, 0, 100, 0, 0x10, 0)],
	["COPY_FILE_RANGE", Opcode.copyFileRange, "file2", (id) => words(0, 0, 4, 0, id("file"), 0, 0, 0, 2, 0, 5, 0, 0, 0)],
];

/** What is in use of the kept memory: as it was when the process stopped, whatever its last steps would have made of it. */
const IN_USE: readonly (readonly [at: number, bytes: number])[] = [
	[0, LARGE_SLOTS_AT],
	...Array.from({ length: LARGE_SLOTS }, (_, i) => [LARGE_SLOTS_AT + i * LARGE_SLOT_BYTES, 4096] as const),
	// the last ones are taken first
	[NODES_AT - 8 * SMALL_SLOT_BYTES, 8 * SMALL_SLOT_BYTES],
	[NODES_AT, 100 * NODE_BYTES],
];

let serial = 0;

/** A kernel that stays, and one server of its mount after the other. */
class Mounted {
	readonly kernel = new FakeKernel();
	readonly stage: Stage;
	readonly #kept;
	#session: FuseSession | null = null;

	constructor(lowers: Lowers, keeping: Keeping) {
		this.stage = new Stage(lowers, `stage ${serial++}`, null, false, keeping);
		this.stage.restoresHolds = true;
		const fd = makeSharedMemory("test", KEPT_BYTES);
		const memory = mapShared(fd, KEPT_BYTES);
		assert.ok(typeof memory !== "number");
		close(fd);
		this.#kept = memory;
	}

	start(): void {
		const overlay = this.stage.open();
		const device = { descriptor: this.kernel.device, kept: this.#kept };
		this.#session = new FuseSession({ device, overlay, actsAs: null, isShared: false, drainSeconds: 0 });
		this.#session.start();
		overlay.endOfRestore();
	}

	async stop(): Promise<void> {
		await this.#session?.close();
		this.stage.abandon();
	}

	memory(): Buffer[] {
		return IN_USE.map(([at, bytes]) => Buffer.from(this.#kept.bytes.subarray(at, at + bytes)));
	}

	restore(memory: readonly Buffer[]): void {
		for (const [i, [at]] of IN_USE.entries()) this.#kept.bytes.set(memory[i] as Buffer, at);
	}

	/** As if it had been received, and its reply never written. */
	putBack(request: Buffer): void {
		this.#kept.bytes.set(request, LARGE_SLOTS_AT);
	}

	async close(): Promise<void> {
		await this.stop();
		this.kernel.close();
		close(this.kernel.device);
		this.stage.remove();
	}

	/** Node ids of all that a request is about. */
	async ids(paths: ReadonlySet<string>): Promise<Map<string, number>> {
		const ids = new Map([["", ROOT]]);
		for (const path of paths) {
			if (path === UNNAMED) {
				const args = named(words(0o20200002, S_IFREG | 0o600, 0, 0), "/");
				ids.set(path, (await this.kernel.take(Opcode.tmpfile, ROOT, args)).readUInt32LE(0));
				continue;
			}
			let at = "";
			for (const part of path.split("/").filter((part) => part !== "")) {
				const below = at === "" ? part : `${at}/${part}`;
				if (!ids.has(below)) ids.set(below, (await this.kernel.take(Opcode.lookup, ids.get(at) as number, name(part))).readUInt32LE(0));
				at = below;
			}
		}
		return ids;
	}

	/** All that users see. */
	async seen(): Promise<readonly string[]> {
		const tree = await this.stage.observe(true);
		return [...tree].map(([path, { type, mode, owner, nlink, content, xattrs }]) =>
			[path, type, mode, owner, nlink, content, xattrs].join(" "),
		);
	}
}

/** Of a reply what is the same in every stage: no numbers of inodes and no times. */
function told(opcode: number, { error, body }: FuseAnswer): unknown {
	const makes = [Opcode.create, Opcode.mknod, Opcode.mkdir, Opcode.symlink, Opcode.link, Opcode.tmpfile] as readonly number[];
	if (opcode === Opcode.setattr) return { error, length: body.length, attributes: body.subarray(16 + 60, 16 + 80) };
	if (!makes.includes(opcode)) return { error, body };
	return { error, length: body.length, id: body.readUInt32LE(0) > ROOT, attributes: body.subarray(40 + 60, 40 + 80) };
}

interface Outcome {
	readonly calls: number;
	readonly told: unknown;
	readonly seen: readonly string[];
}

/** Runs a request up to the call of this number, and has the next server go on with it, and another one once more. */
async function stopAt(
	lowers: Lowers,
	[opcode, path, args]: Asked,
	limit: number,
	expected: Outcome | null,
	keeping: Keeping = "kernel",
): Promise<Outcome> {
	const mounted = new Mounted(lowers, keeping);
	mounted.start();
	const { kernel } = mounted;
	assert.equal((await kernel.init()).error, 0);
	const paths = new Set([path]);
	args((more) => {
		paths.add(more);
		return 0;
	});
	const ids = await mounted.ids(paths);
	const id = (of: string) => ids.get(of) as number;
	let calls = 0;
	let memory: Buffer[] | null = null;
	interceptChanges((call) => {
		if (calls < limit) {
			calls++;
			return undefined;
		}
		memory ??= mounted.memory();
		throw new CrashError(`before ${call}, call ${limit}`);
	});
	const request = kernel.request(opcode, id(path), args(id));
	const unique = kernel.sendRequest(request);
	while (memory === null && !kernel.isAnswered(unique)) await new Promise((resolve) => setImmediate(resolve));
	interceptChanges(null);
	const first = memory === null ? { told: told(opcode, await kernel.answer(unique)), seen: await mounted.seen() } : null;
	await mounted.stop();
	kernel.discard(unique);
	// what the process would still have done it has not: it was killed
	if (memory === null) mounted.putBack(request);
	else mounted.restore(memory);
	const outcome = first ?? (expected as Outcome);
	for (let repetition = 0; repetition < 2; repetition++) {
		mounted.start();
		const answer = told(opcode, await kernel.answer(unique));
		assert.deepEqual(
			[answer, await mounted.seen()],
			[outcome.told, outcome.seen],
			`stopped before call ${limit}, repetition ${repetition}`,
		);
		await mounted.stop();
		mounted.putBack(request);
	}
	mounted.start();
	await kernel.answer(unique);
	assert.equal((await kernel.ask(Opcode.mkdir, ROOT, named(words(0o755, 0), "next"))).error, 0, "the mount goes on");
	await mounted.close();
	return { calls, ...outcome };
}

test("a request that is stopped before any call is done once, and answered by the next server", { skip }, async (t: TestContext) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	const before = lowers.inodes();
	for (const [index, [what, ...asked]] of REQUESTS.entries()) {
		await t.test(what, async (t) => {
			const expected = await stopAt(lowers, asked, Number.POSITIVE_INFINITY, null);
			assert.equal((expected.told as FuseAnswer).error, 0);
			for (let limit = index % STRIDE; limit < expected.calls; limit += STRIDE) await stopAt(lowers, asked, limit, expected);
			t.diagnostic(`${expected.calls} calls`);
		});
	}
	assert.equal(lowers.inodes(), before);
});

test("so are files without a name, with portable handles and as an ordinary user keeps an upper", { skip }, async (t: TestContext) => {
	const lowers = new Lowers(scratch(t).mount("tmpfs"));
	for (const keeping of ["portable", "ordinary"] as const) {
		for (const [what, ...asked] of REQUESTS.filter(([, opcode, , args]) => opcode === Opcode.tmpfile || isOfUnnamed(args))) {
			await t.test(`${what}, ${keeping}`, async () => {
				const expected = await stopAt(lowers, asked, Number.POSITIVE_INFINITY, null, keeping);
				assert.equal((expected.told as FuseAnswer).error, 0);
				for (let limit = 0; limit < expected.calls; limit += STRIDE) await stopAt(lowers, asked, limit, expected, keeping);
			});
		}
	}
});

function isOfUnnamed(args: Asked[2]): boolean {
	let isSo = false;
	args((path) => {
		isSo ||= path === UNNAMED;
		return 0;
	});
	return isSo;
}
