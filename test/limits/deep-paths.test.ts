// Objects at the end of deep paths: finding them, copying them up and renaming along them makes system calls in proportion to the depth,
// a few of them in each pass, and others are answered between two.
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { observeCalls } from "../../src/linux/libc.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import type { OverlayObject } from "../../src/vfs/operations.ts";
import { needs, volume } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

let calls = 0;
observeCalls(() => {
	calls++;
});

const { OverlayError, Pending } = await import("../../src/vfs/errors.ts");
const { openOverlay } = await import("../../src/overlay/opening/open-overlay.ts");
const { close, O, openAt, openPath } = await import("../../src/linux/open.ts");
const { makeDirectory } = await import("../../src/linux/names.ts");

const SUPERUSER = { uid: 0, gid: 0, gids: [] };
const NAME = Buffer.from("d");

/** A path may be longer than one call takes. */
function makeChain(top: string, depth: number): void {
	let fd = openPath(top, O.path | O.directory);
	for (let level = 0; level < depth; level++) {
		assert.equal(makeDirectory(fd, "d", 0o755), 0);
		const below = openAt(fd, "d", O.path | O.directory);
		close(fd);
		fd = below;
	}
	close(openAt(fd, "leaf", O.creat | O.wronly, 0o644));
	close(fd);
}

interface Cost {
	readonly calls: number;
	readonly passes: number;
	readonly callsOfPassMax: number;
}

/** Runs an operation as a dispatcher does. */
async function run<T>(overlay: Overlay, operation: () => T): Promise<{ readonly result: T; readonly cost: Cost }> {
	let passes = 0;
	let sum = 0;
	let most = 0;
	for (;;) {
		calls = 0;
		passes++;
		let ready: Promise<void> | null = null;
		let result: T | undefined;
		try {
			overlay.beginPass();
			result = operation();
		} catch (error) {
			// as a client that is told to come again
			if (error instanceof OverlayError && error.code === "tryagain") ready = new Promise((resolve) => setTimeout(resolve, 20));
			else if (error instanceof Pending) ready = error.ready;
			else throw error;
		}
		sum += calls;
		most = Math.max(most, calls);
		if (ready === null) return { result: result as T, cost: { calls: sum, passes, callsOfPassMax: most } };
		await ready;
	}
}

interface Limits {
	readonly nodesMax?: number;
	readonly descriptorsMax?: number;
}

function rig(context: TestContext, handles: "kernel" | "portable", depth: number, limits: Limits = {}) {
	const folder = scratch(context);
	// in memory, where no call waits: what is asked in threads first, because it may, depends on the clock
	const top = folder.mount("tmpfs", "top", 64);
	mkdirSync(`${top}/state`);
	for (const layer of ["first", "second"]) {
		mkdirSync(`${top}/${layer}`);
		makeChain(`${top}/${layer}`, layer === "first" ? depth : Math.floor(depth / 2));
	}
	let overlay: Overlay | null = null;
	const end = async () => {
		// threads that end keep no process alive, and here is nothing else that does
		const alive = setInterval(() => {}, 1000);
		await overlay?.close();
		clearInterval(alive);
	};
	folder.beforeRemoval(end);
	return {
		/** Another process, which knows nothing yet. */
		async cold(): Promise<Overlay> {
			await end();
			overlay = openOverlay({
				lowers: [`${top}/first`, `${top}/second`],
				upper: `${top}/upper`,
				stateFolder: `${top}/state`,
				isSync: false,
				// long searches for the path of a portable handle are made in threads
				isPatient: handles === "portable",
				purpose: "serve",
				handles,
				...limits,
			}).overlay;
			return overlay;
		},
	};
}

/** Handles of all directories of the chain, by look-ups. */
async function handlesOf(overlay: Overlay, depth: number): Promise<Buffer[]> {
	const handles = [overlay.root.handle];
	let at: OverlayObject = overlay.root;
	for (let level = 0; level < depth; level++) {
		const { handle } = at;
		const { result } = await run(overlay, () => overlay.lookup(overlay.decode(handle), NAME, SUPERUSER));
		assert.ok(result);
		at = result;
		handles.push(at.handle);
	}
	return handles;
}

/** What each way along a path of this depth costs. */
async function costs(
	context: TestContext,
	handles: "kernel" | "portable",
	depth: number,
	limits: Limits = {},
): Promise<Record<string, Cost>> {
	const it = rig(context, handles, depth, limits);
	let overlay = await it.cold();
	const chain = await handlesOf(overlay, depth);
	const bottom = chain[depth];
	const { result: leaf } = await run(overlay, () => overlay.lookup(overlay.decode(bottom), Buffer.from("leaf"), SUPERUSER)?.handle);
	const found: Record<string, Cost> = {};
	const measure = async <T>(what: string, operation: () => T): Promise<T> => {
		const { result, cost } = await run(overlay, operation);
		found[what] = cost;
		return result;
	};
	overlay = await it.cold();
	assert.deepEqual((await measure("find", () => overlay.decode(bottom))).handle, bottom);
	overlay = await it.cold();
	await measure("create", () => overlay.create(overlay.decode(bottom), Buffer.from("new"), SUPERUSER, { mode: "guarded", attributes: {} }));
	overlay = await it.cold();
	assert.deepEqual((await measure("find copied up", () => overlay.decode(bottom))).handle, bottom);
	const middle = chain[Math.floor(depth / 2)];
	const name = Buffer.from("moved");
	await run(overlay, () => overlay.rename(overlay.root, NAME, overlay.root, name, SUPERUSER));
	await measure("rename", () => overlay.rename(overlay.decode(middle), NAME, overlay.root, NAME, SUPERUSER));
	overlay = await it.cold();
	assert.deepEqual((await measure("find moved", () => overlay.decode(bottom))).handle, bottom);
	overlay = await it.cold();
	await measure("rename below", () =>
		overlay.rename(overlay.decode(bottom), Buffer.from("leaf"), overlay.root, Buffer.from("leaf"), SUPERUSER),
	);
	const { result: moved } = await run(overlay, () => overlay.lookup(overlay.root, Buffer.from("leaf"), SUPERUSER)?.handle);
	assert.deepEqual(moved, leaf);
	return found;
}

/** Whatever the depth: 20 ms of the main thread are enough for several times as many. */
const CALLS_OF_PASS_MAX = 800;
/** One call for each pair of levels would come to more, from the second of the depths on. */
const CALLS_PER_LEVEL_MAX = 66;
/** Searching for the path of a portable handle on the main thread. */
const CALLS_OF_SEARCH_MAX = 900;
const DEPTHS = volume([100, 200, 400], [100, 200, 400, 1000, 2000]);

const kinds = [
	["kernel", ""],
	["portable", ""],
	["kernel", ", the caches being smaller than the path"],
	["portable", ", the caches being smaller than the path"],
] as const;

for (const [handles, what] of kinds) {
	const limits = what === "" ? {} : { nodesMax: 50, descriptorsMax: 20 };
	test(`with ${handles} handles the system calls of each way along a path grow as its depth does, and of a pass hardly at all${what}`, {
		skip: needs("root"),
	}, async (t) => {
		const measured = [];
		for (const depth of DEPTHS) measured.push(await costs(t, handles, depth, limits));
		for (const [i, depth] of DEPTHS.entries()) {
			for (const [way, { calls, passes, callsOfPassMax }] of Object.entries(measured[i])) {
				t.diagnostic(`${depth} deep, ${way}: ${calls} calls, ${passes} passes, at most ${callsOfPassMax} calls in one`);
				// of directories that are in memory a rename asks for nothing but what it moves
				const callsMax = way === "rename" ? 150 : CALLS_PER_LEVEL_MAX * depth + CALLS_OF_SEARCH_MAX;
				assert.ok(calls <= callsMax, `${way}: ${calls} calls, ${depth} deep`);
				// where a copied up directory is by portable handles, a pass asks of all directories above it, by a readlink for each
				const passMax = CALLS_OF_PASS_MAX + CALLS_OF_SEARCH_MAX + (handles === "portable" ? depth : 0);
				assert.ok(callsOfPassMax <= passMax, `${way}: ${callsOfPassMax} calls in one pass`);
				if (way !== "rename") assert.ok(passes > depth / 100, `${way} lets others in ${passes - 1} times`);
			}
		}
	});
}

test("between two passes the event loop goes round, and in each turn goes on one request alone", { skip: needs("root") }, async (t) => {
	const depth = 300;
	const it = rig(t, "kernel", depth);
	let overlay = await it.cold();
	const [, , , ...chain] = await handlesOf(overlay, depth);
	overlay = await it.cold();
	let turn = 0;
	let isOver = false;
	const count = () => {
		turn++;
		if (!isOver) setImmediate(count);
	};
	setImmediate(count);
	const turns: number[] = [];
	const deep = [depth - 3, depth - 10, depth - 20].map((level) => {
		let passes = 0;
		return run(overlay, () => {
			// the first pass is in the turn in which the request arrives
			if (passes++ > 0) turns.push(turn);
			return overlay.create(overlay.decode(chain[level]), Buffer.from("new"), SUPERUSER, { mode: "guarded", attributes: {} });
		});
	});
	await Promise.all(deep);
	isOver = true;
	assert.ok(turns.length > 20, `${turns.length} passes`);
	assert.equal(new Set(turns).size, turns.length, `two passes in one turn: ${turns}`);
});

test("a directory above is moved again and again while one below is looked for: it is found, or the client is told to come again", {
	skip: needs("root"),
}, async (t) => {
	const depth = 300;
	const it = rig(t, "kernel", depth);
	let overlay = await it.cold();
	const bottom = (await handlesOf(overlay, depth))[depth];
	await run(overlay, () => overlay.create(overlay.decode(bottom), Buffer.from("new"), SUPERUSER, { mode: "guarded", attributes: {} }));
	overlay = await it.cold();
	const names = [NAME, Buffer.from("other")];
	let passes = 0;
	const { result } = await run(overlay, () => {
		// from the second pass on each one finds the way to be another
		const [from, to] = passes++ % 2 === 1 ? names : [...names].reverse();
		if (passes > 1 && passes < 40) overlay.rename(overlay.root, from, overlay.root, to, SUPERUSER);
		return overlay.decode(bottom);
	});
	assert.deepEqual(result.handle, bottom);
	assert.ok(passes > 3);
});
