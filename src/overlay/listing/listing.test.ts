// Listings over changes, restarts and windows.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fc } from "../../../test/support/fast-check.ts";
import { needs, sbinPath } from "../../../test/support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../../../test/support/scratch.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import type { ListCursor } from "../../vfs/operations.ts";
import type { Node } from "../nodes/node.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { Overlay } from "../operations/overlay.ts";
import { untilReady } from "../operations/until-ready.ts";
import { scan } from "../threads/scan.ts";
import { LISTING_LIMITS, type ListingLimits } from "./listing.ts";

const ROOT = { skip: needs("root") };
const SUPERUSER = { uid: 0, gid: 0, gids: [] };
const NEVER_OFFLOAD = Number.MAX_SAFE_INTEGER;
const ALWAYS_OFFLOAD = -1;
const ADDED_MAX = 4096;

function fixture(context: TestContext, kind: FileSystem = "tmpfs") {
	const folder = scratch(context);
	const mounted = folder.mount(kind, kind, kind === "tmpfs" ? 64 : 320);
	return {
		folder,
		mounted,
		/** A new overlay whose lower has files of these names. */
		open(names: readonly string[], changes: Partial<ListingLimits> = {}): Overlay {
			const path = mkdtempSync(join(mounted, "o"));
			for (const name of ["lower", "state"]) mkdirSync(join(path, name));
			for (const name of names) writeFileSync(join(path, "lower", name), "");
			const { overlay } = openOverlay({
				lowers: [join(path, "lower")],
				upper: join(path, "upper"),
				stateFolder: join(path, "state"),
				isSync: false,
				purpose: "serve",
				listingLimits: { ...LISTING_LIMITS, inlineBytes: NEVER_OFFLOAD, ...changes },
			});
			folder.beforeRemoval(() => overlay.close());
			return overlay;
		},
	};
}

interface Entry {
	readonly name: string;
	readonly cookie: bigint;
}

const numbered = (count: number) => Array.from({ length: count }, (_, i) => `name-${i}`);
const cookieOf = (cursor: ListCursor) => (BigInt(cursor.cookieHi) << 32n) | BigInt(cursor.cookieLo);

function cursorAt(overlay: Overlay, directory: Node, cookie: bigint): ListCursor {
	return overlay.list(directory, SUPERUSER, Number(cookie >> 32n), Number(cookie & 0xffffffffn));
}

/** Up to `count` entries after the cookie, by a cursor of their own as each request has one. An entry that has to wait ends them early. */
function page(overlay: Overlay, directory: Node, cookie: bigint, count: number): Entry[] {
	const cursor = cursorAt(overlay, directory, cookie);
	const entries: Entry[] = [];
	try {
		while (entries.length < count && cursor.next()) {
			entries.push({ name: Buffer.from(cursor.name).toString("latin1"), cookie: cookieOf(cursor) });
		}
	} catch (error) {
		if (!(error instanceof Pending) || entries.length === 0) throw error;
	}
	return entries;
}

/** All entries but . and .., in pages. */
function list(overlay: Overlay, pageEntries = 1000, directory: Node = overlay.root): Entry[] {
	const entries: Entry[] = [];
	for (let cookie = 2n; ; ) {
		const next = page(overlay, directory, cookie, pageEntries);
		if (next.length === 0) return entries;
		entries.push(...next);
		cookie = next[next.length - 1].cookie;
	}
}

/** As list, waiting where a front end waits. */
async function listWaiting(overlay: Overlay): Promise<Entry[]> {
	const entries: Entry[] = [];
	for (let cookie = 2n; ; ) {
		const next = await untilReady(() => page(overlay, overlay.root, cookie, 1000));
		if (next.length === 0) return entries;
		entries.push(...next);
		cookie = next[next.length - 1].cookie;
	}
}

const namesOf = (entries: readonly Entry[]) => entries.map(({ name }) => name);

function create(overlay: Overlay, name: string, directory: Node = overlay.root): Node {
	return overlay.create(directory, Buffer.from(name, "latin1"), SUPERUSER, { mode: "guarded", attributes: {} }).object;
}

function remove(overlay: Overlay, name: string): void {
	overlay.remove(overlay.root, Buffer.from(name, "latin1"), SUPERUSER);
}

test("a listing begins with . and .., whose cookies are 1 and 2", ROOT, (t) => {
	const overlay = fixture(t).open(["a"]);
	const entries = page(overlay, overlay.root, 0n, 10);
	assert.deepEqual(entries.slice(0, 2), [
		{ name: ".", cookie: 1n },
		{ name: "..", cookie: 2n },
	]);
	assert.deepEqual(namesOf(page(overlay, overlay.root, 1n, 10)), ["..", "a"]);
	assert.deepEqual(namesOf(page(overlay, overlay.root, 2n, 10)), ["a"]);
	assert.deepEqual(page(overlay, overlay.root, entries[2].cookie, 10), []);
	assert.deepEqual(page(overlay, overlay.root, 2n ** 64n - 1n, 10), []);
});

test("pages and windows of any size list every entry once, in the order of their cookies, and each alike", ROOT, (t) => {
	const { open } = fixture(t);
	const limits = [{ windowEntries: 1_000_000 }, { windowEntries: 64 }, { windowEntries: 7 }, { windowEntries: 1 }];
	// with ties, as good as never met with 63 bits
	for (const limit of [
		...limits,
		{ windowEntries: 7, hashBits: 10 },
		{ windowEntries: 1, hashBits: 8 },
		{ windowEntries: 3, hashBits: 4 },
	]) {
		const overlay = open(numbered(200), limit);
		for (const name of numbered(200).slice(0, 20)) remove(overlay, name);
		for (let i = 200; i < 230; i++) create(overlay, `name-${i}`);
		const whole = list(overlay);
		assert.deepEqual(namesOf(whole).sort(), numbered(230).slice(20).sort());
		assert.ok(whole.every(({ cookie }, i) => cookie > (whole[i - 1]?.cookie ?? 2n)));
		for (const pageEntries of [1, 3, 64]) assert.deepEqual(list(overlay, pageEntries), whole, `pages of ${pageEntries}`);
	}
});

test("file ids of a listing and of its objects are equal, lower, made new, or copied up", ROOT, (t) => {
	const overlay = fixture(t).open(numbered(20));
	create(overlay, "new");
	overlay.mkdir(overlay.root, Buffer.from("directory"), SUPERUSER, {});
	const changed = overlay.lookup(overlay.root, Buffer.from("name-3"), SUPERUSER);
	assert.ok(changed !== null);
	overlay.setattr(changed, SUPERUSER, { mode: 0o600 });
	for (let i = 0; i < 2; i++) {
		const cursor = overlay.list(overlay.root, SUPERUSER, 0, 0);
		let count = 0;
		while (cursor.next()) {
			const object = cursor.object();
			assert.ok(object !== null);
			const { fileidHi, fileidLo } = overlay.getattr(object);
			assert.deepEqual(cursor.fileid(), { hi: fileidHi, lo: fileidLo }, Buffer.from(cursor.name).toString());
			count++;
		}
		assert.equal(count, 24);
		// once as patched in memory, once as it is made anew
		overlay.listings.forget(overlay.root);
	}
});

test("what is not touched while pages are read is listed exactly once, and what is removed or added ahead shows at once", ROOT, (t) => {
	const { open } = fixture(t);
	for (const windowEntries of [1_000_000, 16, 5]) {
		const overlay = open(numbered(120), { windowEntries });
		const whole = list(overlay);
		const seen: string[] = [];
		const removedAhead: string[] = [];
		const addedAhead: string[] = [];
		let cookie = 2n;
		for (let round = 0; ; round++) {
			const next = page(overlay, overlay.root, cookie, 10);
			seen.push(...namesOf(next));
			if (next.length < 10) break;
			cookie = next[9].cookie;
			const later = whole.filter((entry) => entry.cookie > cookie && !removedAhead.includes(entry.name));
			// one ahead and one behind are removed, and some are added wherever they fall
			const victim = later[(round * 7) % Math.max(1, later.length)];
			if (victim !== undefined) {
				remove(overlay, victim.name);
				removedAhead.push(victim.name);
			}
			remove(overlay, seen[round]);
			for (let i = 0; i < 3; i++) {
				const name = `added-${round}-${i}`;
				create(overlay, name);
				const own = list(overlay).find((entry) => entry.name === name);
				if (own !== undefined && own.cookie > cookie) addedAhead.push(name);
			}
		}
		assert.equal(new Set(seen).size, seen.length);
		for (const { name } of whole) assert.equal(seen.includes(name), !removedAhead.includes(name), name);
		for (const name of addedAhead) assert.ok(seen.includes(name), name);
		assert.ok(removedAhead.length > 5 && addedAhead.length > 5);
	}
});

test("a listing that was kept up to date equals a new one, whatever changed", ROOT, (t) => {
	const { open } = fixture(t);
	const names = fc.constantFrom(...numbered(12), "other", "third", "\xff\xfe");
	const change = fc.tuple(fc.constantFrom("create", "remove", "rename", "mkdir", "list"), names, names);
	fc.assert(
		fc.property(fc.array(change, { maxLength: 25 }), fc.constantFrom(1_000_000, 4, 1), (changes, windowEntries) => {
			const overlay = open(numbered(8), { windowEntries });
			const bytes = (name: string) => Buffer.from(name, "latin1");
			list(overlay);
			for (const [kind, name, to] of changes) {
				try {
					if (kind === "create") create(overlay, name);
					else if (kind === "remove") remove(overlay, name);
					else if (kind === "rename") overlay.rename(overlay.root, bytes(name), overlay.root, bytes(to), SUPERUSER);
					else if (kind === "mkdir") overlay.mkdir(overlay.root, bytes(name), SUPERUSER, {});
					else list(overlay, 3);
				} catch (error) {
					if (!(error instanceof OverlayError)) throw error;
				}
				const kept = list(overlay);
				overlay.listings.forget(overlay.root);
				assert.deepEqual(kept, list(overlay));
			}
		}),
		{ numRuns: 40 },
	);
});

test("a name at the edge of a window is listed once when it is removed and comes back", ROOT, (t) => {
	const overlay = fixture(t).open(numbered(30), { windowEntries: 5 });
	const whole = list(overlay);
	for (const at of [3, 4, 5, 6, 9, 10, 29]) {
		const { name } = whole[at];
		const before = at === 0 ? 2n : whole[at - 1].cookie;
		page(overlay, overlay.root, before, 1);
		remove(overlay, name);
		assert.notEqual(page(overlay, overlay.root, before, 1)[0]?.name, name);
		create(overlay, name);
		assert.deepEqual(page(overlay, overlay.root, before, 1), [whole[at]]);
		assert.deepEqual(list(overlay, 2), whole);
	}
});

test("names that share a hash are each listed once over pages of one entry, also when some are added and removed", ROOT, (t) => {
	const overlay = fixture(t).open(numbered(60), { hashBits: 4 });
	const whole = list(overlay);
	assert.deepEqual(namesOf(whole).sort(), numbered(60).sort());
	assert.ok(whole[59].cookie <= 3n + 16n + 60n);
	assert.deepEqual(list(overlay, 1), whole);
	for (let i = 0; i < 60; i += 2) remove(overlay, `name-${i}`);
	for (let i = 60; i < 90; i++) create(overlay, `name-${i}`);
	const rest = numbered(90).filter((_, i) => i >= 60 || i % 2 === 1);
	for (const pageEntries of [1000, 1, 4]) assert.deepEqual(namesOf(list(overlay, pageEntries)).sort(), [...rest].sort());
});

test("after more than 4,096 added names a listing is made anew, and it lists the same", ROOT, (t) => {
	const overlay = fixture(t).open(numbered(3));
	list(overlay);
	const child = overlay.lookup(overlay.root, Buffer.from("name-0"), SUPERUSER) as Node;
	const add = (i: number) => overlay.listings.noteAdded(overlay.root, Buffer.from(`added-${i}`), child);
	for (let i = 0; i < ADDED_MAX; i++) add(i);
	assert.ok(overlay.listings.bytes > 0);
	assert.equal(list(overlay).length, 3 + ADDED_MAX);
	add(ADDED_MAX);
	assert.equal(overlay.listings.bytes, 0);
	// on disk there were none of them
	assert.equal(list(overlay).length, 3);
});

test("a name that is added and removed again and again takes no room in a listing", ROOT, (t) => {
	const overlay = fixture(t).open(numbered(3));
	const whole = list(overlay);
	const child = overlay.lookup(overlay.root, Buffer.from("name-0"), SUPERUSER) as Node;
	for (let i = 0; i < 2 * ADDED_MAX; i++) {
		overlay.listings.noteAdded(overlay.root, Buffer.from("again"), child);
		overlay.listings.noteAdded(overlay.root, Buffer.from("name-1"), child);
		overlay.listings.noteRemoved(overlay.root, Buffer.from("again"));
	}
	assert.ok(overlay.listings.bytes > 0);
	assert.deepEqual(list(overlay), whole);
});

test("listings in memory are bounded; the newest always stays", ROOT, (t) => {
	const overlay = fixture(t).open(numbered(10), { cacheBytes: 1 });
	const directories = ["a", "b", "c"].map((name) => overlay.mkdir(overlay.root, Buffer.from(name), SUPERUSER, {}));
	for (const directory of directories) for (let i = 0; i < 5; i++) create(overlay, `${i}`, directory);
	const sizes = directories.map((directory) => {
		assert.equal(list(overlay, 2, directory).length, 5);
		return overlay.listings.bytes;
	});
	assert.ok(sizes[0] > 0);
	assert.deepEqual(sizes, [sizes[0], sizes[0], sizes[0]]);
	const roomy = fixture(t).open(numbered(10));
	const other = roomy.mkdir(roomy.root, Buffer.from("a"), SUPERUSER, {});
	list(roomy);
	const one = roomy.listings.bytes;
	list(roomy, 2, other);
	assert.ok(roomy.listings.bytes > one);
	roomy.listings.forget(other);
	assert.equal(roomy.listings.bytes, one);
});

test("a scan off the main thread lists what changed while it ran, whether it came past there before or after", ROOT, async (t) => {
	const { open } = fixture(t);
	for (const [windowEntries, isBefore] of [
		[1_000_000, true],
		[1_000_000, false],
		[10, true],
		[10, false],
	] as const) {
		const overlay = open(numbered(40), { inlineBytes: ALWAYS_OFFLOAD, windowEntries });
		const { offload } = overlay.engine;
		const { run } = offload;
		// the first scan ends before any change, but is only heard of after them
		let tell = () => {};
		if (isBefore) {
			offload.run = (job) => {
				assert.ok(job.kind === "scan");
				const result = scan(job);
				return new Promise((resolve) => {
					tell = () => resolve(result);
				});
			};
		}
		let pending: Pending | null = null;
		try {
			page(overlay, overlay.root, 2n, 1);
		} catch (error) {
			assert.ok(error instanceof Pending);
			pending = error;
		}
		assert.ok(pending !== null);
		offload.run = run;
		for (let i = 0; i < 40; i += 4) remove(overlay, `name-${i}`);
		for (let i = 40; i < 50; i++) create(overlay, `name-${i}`);
		create(overlay, "name-0");
		remove(overlay, "name-49");
		// all who ask meanwhile wait for the one scan
		assert.throws(
			() => page(overlay, overlay.root, 2n, 1),
			(error) => error instanceof Pending && error.ready === pending.ready,
		);
		tell();
		await pending.ready;
		const expected = numbered(49).filter((_, i) => i === 0 || i >= 40 || i % 4 !== 0);
		assert.deepEqual(namesOf(await listWaiting(overlay)).sort(), expected.sort());
	}
});

test("a scan that fails off the main thread fails the request that waits for it, and no later one", ROOT, async (t) => {
	const overlay = fixture(t).open(numbered(4), { inlineBytes: ALWAYS_OFFLOAD });
	const { offload } = overlay.engine;
	const { run } = offload;
	offload.run = () => Promise.resolve(-5);
	await assert.rejects(listWaiting(overlay), (error) => error instanceof OverlayError && error.code === "io");
	offload.run = run;
	assert.equal((await listWaiting(overlay)).length, 4);
});

test("a subvolume inside a lower is listed, shown as empty and not entered", { skip: cannotMount("btrfs") }, (t) => {
	const { mounted, folder } = fixture(t, "btrfs");
	for (const name of ["lower", "state"]) mkdirSync(join(mounted, name));
	execFileSync("btrfs", ["subvolume", "create", join(mounted, "lower/nested")], {
		stdio: "pipe",
		env: { ...process.env, PATH: sbinPath() },
	});
	writeFileSync(join(mounted, "lower/nested/file"), "");
	writeFileSync(join(mounted, "lower/beside"), "");
	const { overlay } = openOverlay({
		lowers: [join(mounted, "lower")],
		stateFolder: join(mounted, "state"),
		isSync: false,
		purpose: "serve",
	});
	folder.beforeRemoval(() => overlay.close());
	assert.deepEqual(namesOf(list(overlay)).sort(), ["beside", "nested"]);
	const nested = overlay.lookup(overlay.root, Buffer.from("nested"), SUPERUSER);
	assert.ok(nested !== null);
	assert.ok(nested.top.foreign);
	assert.deepEqual(list(overlay, 10, nested), []);
	assert.equal(overlay.lookup(nested, Buffer.from("file"), SUPERUSER), null);
	assert.equal(overlay.lookup(nested, Buffer.from(".."), SUPERUSER), overlay.root);
});
