/** `holdfast rebase`: another image in the place of a lower. Handles of what is the same go on, all others are stale, and none finds another file. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, linkSync, mkdirSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { giveTo } from "../support/held-tree.ts";
import { plant } from "../support/lower-tree.ts";
import { FileType3, type Nfs3Client, ok, statusName } from "../support/nfs3-client.ts";
import { needs } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { type OrdinaryUser, ordinaryUser, runHoldfast, ServerProcess } from "../support/server-process.ts";
import { assertSameTree, snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root", "getfattr");

const TIME = 1_500_000_000;

/** Writes a file with a time of its own choice. */
function put(top: string, path: string, contents: string, time = TIME): void {
	plant(top, { [path]: contents });
	utimesSync(join(top, path), time, time);
}

function plantImageA(top: string): string {
	mkdirSync(top, { recursive: true });
	for (const path of ["same", "dir/same", "dir/deep/er/same", "copied/same", "renamed/same", "moved dir/inside"])
		put(top, path, `A ${path}`);
	for (const path of ["sneaky", "dir/sneaky", "copied/sneaky"]) put(top, path, "one content");
	for (const path of ["touched", "dir/touched", "copied/touched", "renamed/touched"]) put(top, path, "touched");
	for (const path of ["longer", "removed", "removed dir/file", "file to dir", "dir to file/inside", "file to link"])
		put(top, path, `A ${path}`);
	for (const path of ["copied/longer", "renamed/longer", "hidden/gone", "opaque/one", "copied/removed"]) put(top, path, `A ${path}`);
	symlinkSync("same", join(top, "link"));
	symlinkSync("same", join(top, "other link"));
	execFileSync("touch", ["-h", "-d", `@${TIME}`, "link", "other link"], { cwd: top });
	execFileSync("mkfifo", [join(top, "fifo")]);
	return top;
}

function makeImageB(from: string, top: string): string {
	execFileSync("cp", ["-a", from, top]);
	for (const path of ["sneaky", "dir/sneaky", "copied/sneaky"]) put(top, path, "two content");
	for (const path of ["touched", "dir/touched", "copied/touched", "renamed/touched"]) put(top, path, "touched", TIME + 5);
	for (const path of ["longer", "copied/longer", "renamed/longer", "hidden/gone"]) put(top, path, "B, a longer content than before");
	for (const path of ["removed", "removed dir", "file to dir", "dir to file", "file to link", "other link", "copied/removed"]) {
		rmSync(join(top, path), { recursive: true });
	}
	mkdirSync(join(top, "file to dir"));
	put(top, "file to dir/inside", "B");
	put(top, "dir to file", "B");
	symlinkSync("same", join(top, "file to link"));
	symlinkSync("copied/same", join(top, "other link"));
	for (const path of ["added/file", "opaque/added", "hidden/mine", "moved dir/added"]) put(top, path, "B");
	return top;
}

interface Known {
	readonly handle: Buffer;
	readonly fileid: bigint;
	readonly type: number;
	readonly contents: string;
}

async function look(client: Nfs3Client, handle: Buffer): Promise<Known> {
	const { fileid, type } = await client.attributesOf(handle);
	const contents =
		type === FileType3.reg
			? (await client.readFile(handle)).toString()
			: type === FileType3.lnk
				? (await ok(client.readlink(handle))).target
				: "";
	return { handle, fileid, type, contents };
}

async function takeAll(client: Nfs3Client): Promise<Map<string, Known>> {
	const found = new Map<string, Known>();
	for (const [path, { handle }] of await client.tree(await client.root())) found.set(path, await look(client, handle));
	return found;
}

interface Site {
	readonly user: OrdinaryUser;
	readonly upper: string;
	readonly image: (name: string) => string;
	readonly serve: (image: string) => Promise<{ server: ServerProcess; client: Nfs3Client; end: () => Promise<void> }>;
	readonly rebase: (lower: string, was: string, ...args: string[]) => ReturnType<typeof runHoldfast>;
}

function site(made: Scratch): Site {
	const user = ordinaryUser(made);
	const upper = made.folder("upper");
	giveTo(user, upper, made.folder("upper.work"), made.folder("state"));
	const image = (name: string) => join(made.path, name);
	return {
		user,
		upper,
		image,
		serve: async (lower) => {
			const server = new ServerProcess({ lowers: [image(lower)], upper, args: ["--async", "--state-dir", image("state")], user });
			made.beforeRemoval(() => server.kill());
			await server.start();
			const client = await server.client();
			return {
				server,
				client,
				end: async () => {
					client.close();
					await server.terminate();
				},
			};
		},
		rebase: (lower, was, ...args) =>
			runHoldfast(["rebase", "--upper", upper, "--lower", image(lower), "--was", image(was), ...args], { user }),
	};
}

/** A change of each kind in upper; where each held object of image A is then, or null. */
async function changeUpper(client: Nfs3Client, before: ReadonlyMap<string, Known>): Promise<Map<string, Known>> {
	const root = await client.root();
	const handle = (path: string) => (before.get(path) as Known).handle;
	for (const name of ["same", "sneaky", "touched", "longer", "removed"]) await client.writeFile(handle(`copied/${name}`), "UP");
	for (const name of ["same", "touched", "longer"]) await ok(client.rename(handle("renamed"), name, root, `from ${name}`), "RENAME");
	await ok(client.rename(root, "moved dir", root, "new place"), "RENAME of a directory");
	await ok(client.remove(handle("hidden"), "gone"));
	await client.createFile(handle("hidden"), "mine", "of upper");
	await ok(client.remove(handle("opaque"), "one"));
	await ok(client.rmdir(root, "opaque"));
	await client.makeDirectory(root, "opaque");
	await client.createFile(root, "born", "of upper");
	return takeAll(client);
}

interface Report {
	readonly upper: string;
	readonly same: number;
	readonly changes: readonly { readonly lower: number; readonly path: string; readonly what: string; readonly hiddenBy: string | null }[];
}

/** No handle of before may find anything else than it did, but for files that count as the same though their content is another. */
async function neverAnother(client: Nfs3Client, before: ReadonlyMap<string, Known>, mayDiffer: RegExp, when: string): Promise<Set<string>> {
	const stale = new Set<string>();
	for (const [path, known] of before) {
		const reply = await client.getattr(known.handle);
		if (reply.status !== 0) {
			assert.equal(statusName(reply.status), "stale", `${when}: ${path}`);
			stale.add(path);
			continue;
		}
		const now = await look(client, known.handle);
		assert.deepEqual([now.fileid, now.type], [known.fileid, known.type], `${when}: ${path}`);
		if (!mayDiffer.test(path)) assert.equal(now.contents, known.contents, `${when}: ${path}`);
	}
	// and what is there now has handles of its own, equal by each way
	for (const [path, { handle }] of await client.tree(await client.root())) {
		const same = [...before].find(([, known]) => known.handle.equals(handle));
		if (same !== undefined) assert.ok(!stale.has(same[0]), `${when}: ${path} has the stale handle of ${same[0]}`);
		assert.deepEqual(await client.walk(await client.root(), path), handle, `${when}: ${path}`);
		await ok(client.getattr(handle), `${when}: ${path}`);
	}
	return stale;
}

const LOST_BY_NATURE = [
	"longer",
	"removed",
	"removed dir",
	"removed dir/file",
	"file to dir",
	"dir to file",
	"dir to file/inside",
	"file to link",
	"other link",
];

for (const sameBy of ["mtime+size", "content"] as const) {
	test(`image A to image B, same by ${sameBy}`, { skip }, async (t) => {
		const made = scratch(t);
		const { user, upper, image, serve, rebase } = site(made);
		plantImageA(image("a"));
		makeImageB(image("a"), image("b"));
		giveTo(user, image("a"), image("b"));
		const first = await serve("a");
		const held = await changeUpper(first.client, await takeAll(first.client));
		const busy = rebase("b", "a");
		assert.equal(busy.code, 1);
		assert.match(busy.stderr, new RegExp(`\\b${first.server.pid}\\b`), "while it is served");
		await first.end();

		const images = [image("a"), image("b")].map((top) => snapshotTree(top, { exact: true }));
		const wrong = rebase("b", "b");
		assert.equal(wrong.code, 1, wrong.stdout);
		assert.match(wrong.stderr, /is not the lower that was served/);
		const done = rebase("b", "a", "--same-by", sameBy, "--json");
		assert.equal(done.code, 0, done.stderr);
		for (const [i, before] of images.entries()) {
			assertSameTree(
				before as ReadonlyMap<string, string>,
				snapshotTree(image(i === 0 ? "a" : "b"), { exact: true }),
				"an image was written to",
			);
		}
		const report = JSON.parse(done.stdout) as Report;
		assert.equal(report.upper, upper);
		const changed = sameBy === "content" ? "sneaky" : "touched";
		const expected: [path: string, what: string, hiddenBy: string | null][] = [
			[`/${changed}`, "changed", null],
			[`/dir/${changed}`, "changed", null],
			[`/copied/${changed}`, "changed", `/copied/${changed}`],
			...(sameBy === "content" ? [] : ([["/renamed/touched", "changed", "/from touched"]] as [string, string, string][])),
			["/longer", "changed", null],
			["/copied/longer", "changed", "/copied/longer"],
			["/renamed/longer", "changed", "/from longer"],
			["/hidden/gone", "changed", "/hidden/gone"],
			["/hidden/mine", "added", "/hidden/mine"],
			["/copied/removed", "removed", "/copied/removed"],
			["/opaque/added", "added", "/opaque"],
			["/moved dir/added", "added", null],
			["/removed", "removed", null],
			["/removed dir", "removed", null],
			["/removed dir/file", "removed", null],
			["/file to dir", "changed", null],
			["/file to dir/inside", "added", null],
			["/dir to file", "changed", null],
			["/dir to file/inside", "removed", null],
			["/file to link", "changed", null],
			["/other link", "changed", null],
			["/added", "added", null],
			["/added/file", "added", null],
		];
		const byPath = (one: readonly unknown[], other: readonly unknown[]) => (String(one[0]) < String(other[0]) ? -1 : 1);
		assert.deepEqual(report.changes.map(({ path, what, hiddenBy }) => [path, what, hiddenBy]).sort(byPath), expected.sort(byPath));
		assert.ok(report.same > 10);
		const old = runHoldfast(["serve", "--lower", image("a"), "--upper", upper, "--state-dir", image("state"), "--listen", "127.0.0.1:0"], {
			user,
		});
		assert.equal(old.code, 1);
		assert.match(old.stderr, /is not the lower that was there before/);

		let second = await serve("b");
		const lost = new Set([...LOST_BY_NATURE, changed, `dir/${changed}`]);
		for (const path of ["opaque/one"]) lost.delete(path);
		const mayDiffer = sameBy === "content" ? /^$/ : /^(dir\/)?sneaky$/;
		for (const when of ["after the rebase", "and after a restart"]) {
			const stale = await neverAnother(second.client, held, mayDiffer, when);
			assert.deepEqual([...stale].sort(), [...lost].sort(), when);
			await second.end();
			second = await serve("b");
		}
		const now = await takeAll(second.client);
		const text = (path: string) => now.get(path)?.contents;
		assert.equal(text("longer"), "B, a longer content than before");
		assert.equal(text("sneaky"), "two content");
		assert.equal(text("dir to file"), "B");
		assert.equal(text("added/file"), "B");
		assert.equal(text("hidden/mine"), "of upper");
		assert.equal(text("hidden/gone"), undefined);
		assert.equal(text("copied/longer"), "UPcopied/longer");
		assert.equal(text("copied/removed"), "UPcopied/removed");
		assert.equal(text("from longer"), "A renamed/longer");
		assert.equal(text("new place/inside"), "A moved dir/inside");
		assert.equal(text("new place/added"), "B", "a directory with another name still has the one below in it");
		assert.equal(text("opaque/added"), undefined);
		assert.deepEqual(now.get("same")?.handle, held.get("same")?.handle);
		// what is new is taken and changed like everything else
		await second.client.writeFile((now.get("longer") as Known).handle, "C");
		await second.client.writeFile((now.get("dir/sneaky") as Known).handle, "TWO");
		const later = await takeAll(second.client);
		await second.end();
		second = await serve("b");
		assert.equal((await neverAnother(second.client, later, /^$/, "changed above B")).size, 0);
		await second.end();
		assert.ok(existsSync(image("a/same")), "image A is still there");
	});
}

test("a chain A, B, C, D: what is the same holds, and what was stale never finds another file", { skip }, async (t) => {
	const made = scratch(t);
	const { user, image, serve, rebase } = site(made);
	const a = plantImageA(image("a"));
	const b = makeImageB(a, image("b"));
	// C has files with the attributes of those of A, and other contents; what was touched stays as in B
	const c = image("c");
	execFileSync("cp", ["-a", b, c]);
	put(c, "longer", "C longer");
	rmSync(join(c, "dir to file"));
	for (const path of ["removed", "removed dir/file", "dir to file/inside"]) put(c, path, `C ${path}`);
	rmSync(join(c, "file to dir"), { recursive: true });
	put(c, "file to dir", "C file to dir");
	put(c, "added/file", "C");
	// D puts the times back
	const d = image("d");
	execFileSync("cp", ["-a", c, d]);
	for (const path of ["touched", "dir/touched"]) put(d, path, "touched");
	giveTo(user, a, b, c, d);

	let now = await serve("a");
	const ofA = await takeAll(now.client);
	await now.client.writeFile((ofA.get("copied/touched") as Known).handle, "UP");
	await now.end();
	const all = new Map<string, Known>(
		[...ofA].map(([path, known]) => [
			path,
			known.contents === "touched" && path === "copied/touched" ? { ...known, contents: "UPuched" } : known,
		]),
	);
	const stale = new Set<string>();
	let before = "a";
	for (const next of ["b", "c", "d"]) {
		const done = rebase(next, before, "--same-by", "content");
		assert.equal(done.code, 0, done.stderr);
		now = await serve(next);
		const lost = await neverAnother(now.client, all, /^$/, `image ${next}`);
		for (const path of stale) {
			// a directory is its path, and may come back
			if ((all.get(path) as Known).type !== FileType3.dir) assert.ok(lost.has(path), `${path} was stale before image ${next}`);
		}
		for (const path of lost) stale.add(path);
		for (const path of ["same", "touched", "dir/touched", "copied/touched", "link", "fifo"])
			assert.ok(!lost.has(path), `${path} in image ${next}`);
		// handles that were given over this image are held from now on too
		for (const [path, known] of await takeAll(now.client)) {
			if (!all.get(path)?.handle.equals(known.handle)) all.set(`${path} of ${next}`, known);
		}
		await now.end();
		before = next;
	}
	for (const path of ["longer", "removed", "file to dir", "sneaky"]) assert.ok(stale.has(path), path);
	// there and back: the same image again
	assert.match(rebase("d", "d").stdout, /^\d+ the same, 0 changed, 0 removed, 0 added\n$/);
	const folder = join(made.path, "upper.work/holdfast/rebases");
	assert.equal(readdirSync(folder).length, 1, "rows of earlier images are gone");
});

test("of two lowers one is exchanged, and names of one file stay together", { skip }, async (t) => {
	const made = scratch(t);
	const { user, upper, image } = site(made);
	const top = plant(image("top"), { "both/top": "top", over: "of the top", "linked/two": "two of top" });
	linkSync(join(top, "linked/two"), join(top, "linked/one"));
	const a = plant(image("a"), {
		"both/bottom": "A",
		over: "hidden",
		kept: "kept",
		"names/m": "linked",
		"names/apart": "apart",
		"pair/x": "p",
		"pair/y": "p",
	});
	for (const name of ["names/n", "zz"]) linkSync(join(a, "names/m"), join(a, name));
	const b = image("b");
	execFileSync("cp", ["-a", a, b]);
	writeFileSync(join(b, "both/bottom"), "B, and longer");
	rmSync(join(b, "names/n"));
	// a lesser name than the one by which it is known, and one for what had a single name
	linkSync(join(b, "names/m"), join(b, "names/aa"));
	linkSync(join(b, "names/apart"), join(b, "names/also apart"));
	// two files that are one now: it is known by the lesser name
	execFileSync("touch", ["-d", `@${TIME}`, join(a, "pair/x"), join(a, "pair/y"), join(b, "pair/x")]);
	rmSync(join(b, "pair/y"));
	linkSync(join(b, "pair/x"), join(b, "pair/y"));
	giveTo(user, top, a, b);
	const serve = async (lowers: readonly string[]) => {
		const server = new ServerProcess({ lowers, upper, args: ["--async", "--state-dir", image("state")], user });
		made.beforeRemoval(() => server.kill());
		await server.start();
		const client = await server.client();
		return {
			client,
			end: async () => {
				client.close();
				await server.terminate();
			},
		};
	};
	const first = await serve([top, a]);
	const held = await takeAll(first.client);
	assert.deepEqual(held.get("names/m")?.handle, held.get("zz")?.handle);
	await first.end();
	const rebase = (...args: string[]) => runHoldfast(["rebase", "--upper", upper, ...args], { user });
	const turned = rebase("--lower", b, "--lower", top, "--was", a, "--was", top);
	assert.equal(turned.code, 1, turned.stdout);
	assert.match(turned.stderr, /is not the lower that was served \(number 1/);
	const done = rebase("--lower", top, "--lower", b, "--was", top, "--was", a, "--json");
	assert.equal(done.code, 0, done.stderr);
	const { changes } = JSON.parse(done.stdout) as Report;
	assert.deepEqual(changes.map(({ lower, path, what }) => `${lower} ${path} ${what}`).sort(), [
		"1 /both/bottom changed",
		"1 /names/aa added",
		"1 /names/also apart added",
		"1 /names/n removed",
	]);
	const second = await serve([top, b]);
	const stale = await neverAnother(second.client, held, /^$/, "image B below");
	assert.deepEqual([...stale].sort(), ["both/bottom", "pair/y"]);
	const now = await takeAll(second.client);
	assert.deepEqual(now.get("names/m")?.handle, held.get("zz")?.handle);
	assert.deepEqual(now.get("zz")?.handle, held.get("zz")?.handle);
	assert.equal((await second.client.attributesOf((now.get("zz") as Known).handle)).nlink, 3);
	assert.deepEqual(now.get("names/aa")?.handle, held.get("zz")?.handle);
	assert.deepEqual(now.get("names/also apart")?.handle, held.get("names/apart")?.handle);
	assert.equal((await second.client.attributesOf((now.get("linked/one") as Known).handle)).nlink, 2);
	await second.client.writeFile((held.get("zz") as Known).handle, "L");
	assert.equal((await second.client.readFile(await second.client.walk(await second.client.root(), "names/m"))).toString(), "Linked");
	await second.end();
});

test("a file that gets a lesser name in another image keeps its handle, where no file of several names was met before", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const { user, image, serve, rebase } = site(made);
	plant(image("a"), { "dir/file": "contents", other: "o" });
	execFileSync("cp", ["-a", image("a"), image("b")]);
	linkSync(join(image("b"), "dir/file"), join(image("b"), "a lesser name"));
	giveTo(user, image("a"), image("b"));
	const first = await serve("a");
	const held = await first.client.walk(await first.client.root(), "dir/file");
	await first.end();
	const done = rebase("b", "a");
	assert.equal(done.code, 0, done.stderr);
	const second = await serve("b");
	assert.equal((await second.client.readFile(held)).toString(), "contents");
	assert.deepEqual(await second.client.walk(await second.client.root(), "a lesser name"), held);
	assert.equal((await second.client.attributesOf(held)).nlink, 2);
	await second.end();
});

test("the report as text, long ones cut short; several lowers; refusals", { skip }, async (t) => {
	const made = scratch(t);
	const { user, upper, image, serve, rebase } = site(made);
	plant(image("a"), { "f/0": "x", kept: "k" });
	plant(image("b"), { "f/0": "xy", kept: "k" });
	for (let index = 1; index < 80; index += 1) writeFileSync(join(image("b"), `f/${index}`), "");
	execFileSync("touch", ["-r", join(image("a"), "kept"), join(image("b"), "kept")]);
	giveTo(user, image("a"), image("b"));
	const { client, end } = await serve("a");
	await client.writeFile(await client.walk(await client.root(), "f/0"), "z");
	await end();
	const two = rebase("b", "a", "--lower", image("a"));
	assert.equal(two.code, 1);
	assert.match(two.stderr, /it has 1 lowers?, and 2 were named with --lower/);
	const none = rebase("none", "a");
	assert.equal(none.code, 1);
	assert.match(none.stderr, /none/);
	const { stdout, code } = rebase("b", "a");
	assert.equal(code, 0);
	const lines = stdout.trimEnd().split("\n");
	assert.equal(lines[0], "2 the same, 1 changed, 0 removed, 79 added");
	assert.ok(lines.includes(`changed ${image("b")}/f/0 (hidden by /f/0 in the upper)`) || lines.length === 52, stdout);
	assert.equal(lines.length, 52);
	assert.match(lines.at(-1) as string, /^and 30 more: --json lists them all$/);
	assert.ok(existsSync(upper));

	// kernel handles are not rebased
	const kernel = { upper: made.folder("kernel"), work: made.folder("kernel.work") };
	const server = new ServerProcess({ lowers: [image("a")], ...kernel, args: ["--state-dir", made.folder("root-state")] });
	made.beforeRemoval(() => server.kill());
	await server.start();
	await server.terminate();
	const refusal = runHoldfast(["rebase", "--upper", kernel.upper, "--lower", image("b"), "--was", image("a")]);
	assert.equal(refusal.code, 1);
	assert.match(refusal.stderr, /kernel.*rebind/);
});

test("without --was the image that was served last is compared; where that is gone too, attributes tell", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const { user, upper, image, serve } = site(made);
	const tree = { same: "same", changed: "one", removed: "x", "d/same": "d" };
	plant(made.folder("a"), tree);
	execFileSync("cp", ["-a", image("a"), image("b")]);
	writeFileSync(join(image("b"), "changed"), "longer");
	rmSync(join(image("b"), "removed"));
	giveTo(user, image("a"), image("b"));
	let { client, end } = await serve("a");
	const root = await client.root();
	const held = new Map<string, Buffer>();
	for (const path of ["same", "changed", "removed", "d", "d/same"]) held.set(path, await client.walk(root, path));
	await client.writeFile(held.get("d/same") as Buffer, "D");
	await end();
	const rebase = (lower: string, ...args: string[]) =>
		runHoldfast(["rebase", "--upper", upper, "--lower", image(lower), "--json", ...args], { user });
	const goesOn = async (lower: string) => {
		({ client, end } = await serve(lower));
		for (const [path, handle] of held) {
			const isStale = path === "changed" || path === "removed";
			assert.equal(statusName((await client.getattr(handle)).status), isStale ? "stale" : "ok", `${path} over ${lower}`);
		}
		await end();
	};
	const compared = rebase("b", "--same-by", "content");
	assert.equal(compared.code, 0, compared.stderr);
	const { isCompared, changes } = JSON.parse(compared.stdout);
	assert.equal(isCompared, true);
	assert.deepEqual(changes.map(({ path, what }: { path: string; what: string }) => `${what} ${path}`).sort(), [
		"changed /changed",
		"removed /removed",
	]);
	await goesOn("b");

	execFileSync("cp", ["-a", image("b"), image("c")]);
	rmSync(image("b"), { recursive: true });
	assert.match(rebase("c", "--same-by", "content").stderr, /Name it with --was/);
	const trusted = rebase("c");
	assert.equal(trusted.code, 0, trusted.stderr);
	assert.deepEqual(JSON.parse(trusted.stdout), { upper, isCompared: false, same: 0, changes: [] });
	await goesOn("c");
});
