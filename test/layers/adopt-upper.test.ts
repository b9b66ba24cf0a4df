/** Uppers that the kernel's overlayfs has made or has changed, taken over. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
	chmodSync,
	existsSync,
	linkSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	symlinkSync,
	unlinkSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { OverlayError } from "../../src/vfs/errors.ts";
import { atEachCall, bytes, kernelTree, LOWERS, type Seen, Stand, sorted, texts, useTree } from "../in-process/stand.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { needs, volume } from "../support/requirements.ts";
import { cannotMount } from "../support/scratch.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root") || cannotMount("ext4");
for (const [options, mayRename] of [
	["index=off,redirect_dir=off", false],
	["index=off,redirect_dir=on", true],
	["index=on,redirect_dir=on", true],
	["index=on,nfs_export=on,redirect_dir=on", true],
	["index=off,metacopy=on,redirect_dir=on", true],
	["index=on,metacopy=on,redirect_dir=on", true],
	["index=off,userxattr", false],
	["index=on,userxattr", false],
	["index=on,nfs_export=on,userxattr", false],
] as const) {
	test(`an upper that the kernel made with ${options} is served after adoption, and its objects keep their handles`, {
		skip,
	}, async (t) => {
		const stand = new Stand(t, LOWERS);
		const userXattrs = options.includes("userxattr");
		stand.options = { userXattrs };
		for (const name of ["link", "link2"]) symlinkSync("target", join(stand.lowers[1], name));
		execFileSync("mkfifo", [join(stand.lowers[1], "pipe")]);
		const lowersBefore = stand.lowers.map((lower) => snapshotTree(lower, { exact: true }));
		const kernel = stand.kernel(options, (tree) => {
			useTree(tree, mayRename);
			// with nfs_export and userxattr the kernel cannot copy them up (EPERM)
			for (const path of options.includes("nfs_export=on,userxattr") ? [] : ["link", "pipe"])
				execFileSync("chown", ["-h", "7:7", join(tree, path)]);
			return kernelTree(tree);
		});
		assert.throws(() => stand.open("serve"), /holdfast adopt/);
		stand.options = { userXattrs: !userXattrs };
		assert.throws(() => stand.open("adopt"), /--userxattr/);
		stand.options = { userXattrs };
		const { problems, identities } = await stand.adopt();
		assert.deepEqual(problems, []);
		assert.ok(identities > 3, `${identities} identities`);
		const first = await stand.tree();
		assert.deepEqual(sorted(texts(first)), sorted(kernel));
		assert.equal(first.get("/file")?.links, 2);
		assert.deepEqual(first.get("/file")?.handle, first.get("/d/second")?.handle);
		assert.equal(first.get("/links/1")?.links, 2);
		// handles hold over changes of what was adopted, and over restarts
		await stand.run((overlay) => overlay.write(walk(overlay, "renamed"), ROOT, 0, bytes("B")));
		await stand.run((overlay) => overlay.write(walk(overlay, "links/1"), ROOT, 0, bytes("L")));
		const moved = userXattrs ? "d" : "D";
		if (!userXattrs) await stand.run((overlay) => overlay.rename(overlay.root, bytes("d"), overlay.root, bytes("D"), ROOT));
		await stand.run((overlay) => overlay.setattr(walk(overlay, "link2"), ROOT, { uid: 9 }));
		await stand.close();
		for (const { handle } of first.values()) assert.deepEqual((await stand.seen(handle)).handle, handle);
		const second = await stand.tree();
		for (const [path, { handle, fileid }] of first) {
			const now = second.get(path.replace(/^\/d(?=\/|$)/, `/${moved}`));
			assert.deepEqual(now?.handle, handle, path);
			assert.equal(now?.fileid, fileid, path);
		}
		assert.equal(second.get("/links/2")?.text, "Linked");
		await stand.release();
		assert.deepEqual(
			sorted(stand.kernel(options.replace("index=off", "index=on").replace("userxattr", "userxattr,redirect_dir=nofollow"), kernelTree)),
			sorted(texts(second)),
			"the kernel goes on with it",
		);
		const third = await stand.tree();
		for (const [path, { handle, links }] of second) {
			assert.deepEqual(third.get(path)?.handle, handle, `${path} after the kernel had it`);
			assert.equal(third.get(path)?.links, links, `links of ${path} after the kernel had it`);
		}
		stand.lowers.forEach((lower, i) => {
			assert.deepEqual(snapshotTree(lower, { exact: true }), lowersBefore[i], lower);
		});
	});
}

for (const options of ["index=on,nfs_export=on,redirect_dir=on", "index=on,redirect_dir=on", "index=off,redirect_dir=on"]) {
	for (const isReleased of [true, false]) {
		const how = isReleased ? "released" : "whose marker was removed by hand";
		test(`an upper of ours, ${how}, that the kernel then changed with ${options}: each handle finds its object or is stale`, {
			skip,
		}, async (t) => {
			const stand = new Stand(t, LOWERS);
			await stand.run((overlay) => overlay.write(walk(overlay, "d/only-below"), ROOT, 0, bytes("ONLY")));
			await stand.run((overlay) => overlay.write(walk(overlay, "links/1"), ROOT, 0, bytes("LINK")));
			await stand.run((overlay) => overlay.write(walk(overlay, "m/a"), ROOT, 0, bytes("A")));
			await stand.run(
				(overlay) => overlay.create(overlay.root, bytes("born"), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }).object,
			);
			await stand.run((overlay) => overlay.remove(walk(overlay, "m"), bytes("b"), ROOT));
			const before = await stand.tree();
			if (isReleased) await stand.release();
			else {
				await stand.close();
				rmSync(join(stand.work, "work/incompat"), { recursive: true });
			}
			const kernel = stand.kernel(options, (tree) => {
				useTree(tree, true);
				unlinkSync(join(tree, "links/1"));
				unlinkSync(join(tree, "moved/a"));
				unlinkSync(join(tree, "born"));
				writeFileSync(join(tree, "d/only-below"), "once more");
				return kernelTree(tree);
			});
			const after = await stand.tree();
			const links2 = options.includes("index=on") ? "LINKed" : kernel.get("/links/2");
			assert.deepEqual(
				sorted(texts(after)).filter(([path]) => path !== "/links/2"),
				sorted(kernel).filter(([path]) => path !== "/links/2"),
			);
			assert.ok([links2, "LINKed"].includes(after.get("/links/2")?.text), "the second name of a file shows one of its states");
			const moves = new Map([
				["/d/both", "/renamed"],
				["/m", "/moved"],
				["/m/sub", "/d/sub"],
				["/m/sub/x", "/d/sub/x"],
				["/m/sub/y", "/d/sub/y"],
			]);
			const gone = ["/other", "/gone", "/gone/1", "/gone/1/2", "/gone/1/2/f", "/m/a", "/born"];
			await stand.close();
			for (const [path, { handle, fileid }] of before) {
				const found = await stand.outcome(handle);
				if (gone.includes(path)) {
					assert.equal(found, "stale", path);
					continue;
				}
				if (path === "/links/1") continue;
				assert.ok(found !== "stale", `${path} is not gone`);
				const now = after.get(moves.get(path) ?? path);
				assert.deepEqual(now?.handle, handle, `${path} keeps its handle`);
				assert.equal(found.fileid, fileid, `${path} keeps its file id`);
				assert.equal(found.text, now?.text, `${path} by its handle`);
			}
			assert.equal(after.get("/links/2")?.links, 1);
			await stand.run((overlay) => overlay.remove(walk(overlay, "links"), bytes("2"), ROOT));
			assert.equal(await stand.outcome((before.get("/links/2") as Seen).handle), "stale", "its last name is gone");
			await stand.release();
			const left = stand.kernel("index=on,redirect_dir=on", kernelTree);
			const expected = new Map(texts(after));
			expected.delete("/links/2");
			assert.deepEqual(sorted(left), sorted(expected));
		});
	}
}

test("an upper that a kernel overlay has mounted at this moment is refused, also in another mount namespace", { skip }, async (t) => {
	const stand = new Stand(t, LOWERS);
	stand.kernel("index=off", () => {
		for (const purpose of ["serve", "adopt"] as const) assert.throws(() => stand.open(purpose), /mounted/);
	});
	assert.deepEqual(readdirSync(stand.work).sort(), ["work"], "nothing was written for the question");
	const [upper, work] = [stand.upper, stand.work];
	const holder = `mount -t overlay overlay -o lowerdir=${stand.lowers[0]},upperdir=${upper},workdir=${work} ${stand.mounted} && echo mounted && exec sleep 60`;
	const { spawn } = await import("node:child_process");
	const child = spawn("unshare", ["-m", "sh", "-c", holder], { stdio: ["ignore", "pipe", "inherit"] });
	try {
		await new Promise((resolve) => child.stdout.once("data", resolve));
		assert.throws(() => stand.open("adopt"), /mounted/);
	} finally {
		child.kill();
		await new Promise((resolve) => child.once("exit", resolve));
	}
	await stand.adopt();
	assert.equal((await stand.tree()).get("/file")?.text, "file");
});

test("a volatile kernel mount that crashed is refused, with the way out", { skip }, async (t) => {
	const stand = new Stand(t, LOWERS);
	stand.kernel("volatile", (tree) => writeFileSync(join(tree, "file"), "changed"));
	if (!existsSync(join(stand.work, "work/incompat/volatile"))) mkdirSync(join(stand.work, "work/incompat/volatile"), { recursive: true });
	for (const purpose of ["serve", "adopt"] as const) assert.throws(() => stand.open(purpose), /volatile.*remove/s);
	rmSync(join(stand.work, "work/incompat"), { recursive: true });
	await stand.adopt();
	assert.equal((await stand.tree()).get("/file")?.text, "changed");
});

test("an adoption that is stopped before any of its calls is begun again by the next start, with the same result", { skip }, async (t) => {
	const stand = new Stand(t, LOWERS);
	const kernel = stand.kernel("index=off,redirect_dir=on", (tree) => {
		useTree(tree, true);
		return kernelTree(tree);
	});
	const [upper, work] = [stand.upper, stand.work];
	let run = 0;
	const restore = () => {
		run++;
		for (const [name, path] of [
			["upper", upper],
			["work", work],
		]) {
			execFileSync("cp", ["-a", path, join(stand.base, `${name}-${run}`)]);
		}
		Object.assign(stand, { upper: join(stand.base, `upper-${run}`), work: join(stand.base, `work-${run}`) });
	};
	restore();
	const calls = await atEachCall(
		1,
		() => stand.adopt(),
		() => stand.abandon(),
		async (call) => {
			await stand.adopt();
			assert.deepEqual(sorted(texts(await stand.tree())), sorted(kernel), `stopped before call ${call}`);
			assert.equal((await stand.tree()).get("/file")?.links, 2);
			await stand.close();
			for (const path of [stand.upper, stand.work]) rmSync(path, { recursive: true });
			restore();
		},
	);
	t.diagnostic(`${calls} points`);
	assert.ok(calls > 20);
});

test("a second adoption that is stopped before any of its calls leaves no handle that finds another object", { skip }, async (t) => {
	const stand = new Stand(t, LOWERS);
	const before = await stand.tree();
	await stand.run((overlay) => overlay.write(walk(overlay, "m/a"), ROOT, 0, bytes("A")));
	await stand.release();
	stand.kernel("index=off,redirect_dir=on", (tree) => useTree(tree, true));
	// the interrupted one goes on where it was: each start does some more of it
	const calls = await atEachCall(
		1,
		async () => {
			await stand.run(() => {});
			await stand.close();
		},
		() => stand.abandon(),
		async () => {},
	);
	assert.ok(calls > 10, `${calls} points`);
	const after = await stand.tree();
	assert.equal(await stand.outcome((before.get("/other") as Seen).handle), "stale");
	assert.equal(await stand.outcome((before.get("/gone/1/2/f") as Seen).handle), "stale");
	assert.deepEqual(after.get("/moved/a")?.handle, before.get("/m/a")?.handle);
	assert.deepEqual(after.get("/renamed")?.handle, before.get("/d/both")?.handle);
});

test("copies made inside of an upper by cp -a carry another object's marks, and are objects of their own", { skip }, async (t) => {
	const stand = new Stand(t, LOWERS);
	await stand.run((overlay) => overlay.write(walk(overlay, "m/a"), ROOT, 0, bytes("A")));
	await stand.release();
	execFileSync("cp", ["-a", join(stand.upper, "m/a"), join(stand.upper, "m/clone")]);
	const tree = await stand.tree();
	assert.equal(tree.get("/m/clone")?.text, "A");
	assert.notDeepEqual(tree.get("/m/clone")?.handle, tree.get("/m/a")?.handle);
	assert.notEqual(tree.get("/m/clone")?.fileid, tree.get("/m/a")?.fileid);
	await stand.run((overlay) => overlay.write(walk(overlay, "m/clone"), ROOT, 0, bytes("C")));
	assert.equal((await stand.tree()).get("/m/a")?.text, "A");
});

test("an origin that names an inode outside of the lowers is not believed", { skip }, async (t) => {
	const stand = new Stand(t, LOWERS);
	const secret = join(stand.base, "secret");
	writeFileSync(secret, "secret");
	// the kernel's own record of that inode, by letting it copy the file up from a layer that is none of ours
	mkdirSync(join(stand.base, "elsewhere"));
	linkSync(secret, join(stand.base, "elsewhere/file"));
	unlinkSync(secret);
	const lowers = [...stand.lowers];
	stand.lowers.splice(0, 2, join(stand.base, "elsewhere"));
	stand.kernel("index=off", (tree) => writeFileSync(join(tree, "file"), "planted"));
	stand.lowers.splice(0, 1, ...lowers);
	const { problems, identities } = await stand.adopt();
	assert.match(problems.join("\n"), /\/file: its origin lies in no lower/);
	assert.equal(identities, 0);
	assert.equal((await stand.tree()).get("/file")?.text, "planted");
	await stand.run((overlay) => overlay.remove(overlay.root, bytes("file"), ROOT));
	assert.equal(readFileSync(join(stand.base, "elsewhere/file"), "utf8"), "secret");
});

test("metacopy files of an upper show their data, keep their handles, and get data of their own when they are written to", {
	skip,
}, async (t) => {
	const stand = new Stand(t, [{ "top/f": "top" }, { "d/f": "data of f", "d/g": "data of g", "d/h": "data of h", "e/i": "data of i" }]);
	const options = "metacopy=on,redirect_dir=on,index=on";
	const kernel = stand.kernel(options, (tree) => {
		for (const path of ["d/f", "d/g", "d/h", "e/i"]) chmodSync(join(tree, path), 0o640);
		renameSync(join(tree, "d/g"), join(tree, "moved-g"));
		mkdirSync(join(tree, "new"));
		renameSync(join(tree, "d/h"), join(tree, "new/h"));
		renameSync(join(tree, "e"), join(tree, "new/e"));
		return kernelTree(tree);
	});
	const xattr = (path: string) =>
		execFileSync("getfattr", ["-h", "-m", "trusted.overlay.metacopy", join(stand.upper, path)], { encoding: "utf8" });
	assert.match(xattr("d/f"), /metacopy/);
	assert.deepEqual((await stand.adopt()).problems, []);
	const first = await stand.tree();
	assert.deepEqual(sorted(texts(first)), sorted(kernel));
	const capability = Buffer.from("0100000200040000000000000000000000000000", "hex");
	execFileSync("setfattr", ["-n", "security.capability", "-v", `0x${capability.toString("hex")}`, join(stand.upper, "d/f")]);
	await stand.close();
	assert.deepEqual(sorted(texts(await stand.tree())), sorted(kernel), "after a restart");
	await stand.run((overlay) => overlay.setattr(walk(overlay, "d/f"), ROOT, { mtime: { sec: 5, nsec: 6 } }));
	await stand.run((overlay) => overlay.write(walk(overlay, "d/f"), ROOT, 3, bytes("!")));
	await stand.run((overlay) => overlay.setattr(walk(overlay, "moved-g"), ROOT, { size: 4 }));
	await stand.run((overlay) => overlay.rename(walk(overlay, "new"), bytes("h"), overlay.root, bytes("H"), ROOT));
	await stand.run((overlay) => overlay.rename(overlay.root, bytes("new"), overlay.root, bytes("newer"), ROOT));
	const second = await stand.tree();
	for (const [path, text, before] of [
		["/d/f", "dat! of f", "/d/f"],
		["/moved-g", "data", "/moved-g"],
		["/H", "data of h", "/new/h"],
		["/newer/e/i", "data of i", "/new/e/i"],
	]) {
		assert.equal(second.get(path)?.text, text, path);
		assert.deepEqual(second.get(path)?.handle, first.get(before)?.handle, path);
	}
	assert.doesNotMatch(xattr("d/f"), /metacopy/, "what was written to");
	for (const path of ["moved-g", "H", "newer/e/i"]) assert.match(xattr(path), /metacopy/, path);
	await stand.release();
	for (const path of ["d/f", "moved-g", "H"]) assert.doesNotMatch(xattr(path), /metacopy/, path);
	assert.match(xattr("newer/e/i"), /metacopy/, "what was only looked at is as it was");
	assert.deepEqual(sorted(stand.kernel(options, kernelTree)), sorted(texts(second)), "the kernel reads on");
});

test("metacopy files of lowers show the data of a lower below, also through a chain, and are copied up whole", { skip }, async (t) => {
	const stand = new Stand(t, [{ "d/f": "data of f", "d/g": "data of g" }]);
	const options = "metacopy=on,redirect_dir=on";
	const changes: ((tree: string) => void)[] = [
		(tree) => {
			chmodSync(join(tree, "d/f"), 0o640);
			renameSync(join(tree, "d/g"), join(tree, "d/G"));
		},
		(tree) => {
			chmodSync(join(tree, "d/f"), 0o600);
			chmodSync(join(tree, "d/G"), 0o600);
			renameSync(join(tree, "d"), join(tree, "D"));
		},
	];
	for (const [i, change] of changes.entries()) {
		stand.kernel(options, change);
		const former = join(stand.base, `former-${i}`);
		renameSync(stand.upper, former);
		stand.lowers.unshift(former);
		for (const path of [stand.upper, stand.work]) {
			rmSync(path, { recursive: true, force: true });
			mkdirSync(path);
		}
	}
	const kernel = stand.kernel(options, kernelTree);
	rmSync(stand.work, { recursive: true });
	mkdirSync(stand.work);
	execFileSync("sh", ["-c", `rm -rf ${stand.upper} && mkdir ${stand.upper}`]);
	assert.deepEqual((await stand.adopt()).problems, []);
	const first = await stand.tree();
	assert.deepEqual(sorted(texts(first)), sorted(kernel));
	await stand.close();
	for (const [path, { handle, text }] of first) assert.equal((await stand.seen(handle)).text, text, `${path} from cold`);
	await stand.run((overlay) => overlay.write(walk(overlay, "D/G"), ROOT, 0, bytes("D")));
	await stand.run((overlay) => overlay.setattr(walk(overlay, "D/f"), ROOT, { mode: 0o644 }));
	const second = await stand.tree();
	assert.equal(second.get("/D/G")?.text, "Data of g");
	assert.equal(second.get("/D/f")?.text, "data of f");
	assert.deepEqual(second.get("/D/f")?.handle, first.get("/D/f")?.handle);
	await stand.release();
	assert.deepEqual(sorted(stand.kernel("redirect_dir=on,metacopy=on", kernelTree)), sorted(texts(second)));
});

test("a metacopy file that nobody has looked at, or whose data is gone, answers with an error and never with zeros", {
	skip,
}, async (t) => {
	const stand = new Stand(t, [{ file: "data" }]);
	stand.kernel("metacopy=on", (tree) => chmodSync(join(tree, "file"), 0o600));
	const former = join(stand.base, "former");
	execFileSync("cp", ["-a", stand.upper, former]);
	stand.lowers.unshift(former);
	execFileSync("setfattr", ["-h", "-x", "trusted.overlay.impure", former]);
	for (const name of ["origin", "uuid"]) execFileSync("sh", ["-c", `setfattr -x trusted.overlay.${name} ${former} 2>/dev/null || true`]);
	Object.assign(stand, { upper: join(stand.base, "upper2"), work: join(stand.base, "work2") });
	for (const path of [stand.upper, stand.work]) mkdirSync(path);
	const fails = (sentence: RegExp) =>
		assert.rejects(stand.tree(), (error: OverlayError) => error.code === "io" && sentence.test(error.message));
	await fails(/adopt/);
	const { handle } = await stand.at("file");
	await assert.rejects(
		stand.run((overlay) => overlay.write(overlay.decode(handle), ROOT, 0, bytes("x"))),
		(error: OverlayError) => error.code === "io",
	);
	await stand.close();
	await stand.adopt();
	assert.equal((await stand.tree()).get("/file")?.text, "data");
	await stand.close();
	rmSync(join(stand.lowers[1], "file"));
	await fails(/not there/);
});

test("data-only layers give metacopy files their data and show no names of their own", { skip }, async (t) => {
	const stand = new Stand(t, [
		{ "d/f": "data of f", "d/g": "data of g" },
		{ "objects/1": "first object", "objects/2": "second object" },
	]);
	const [lower, data] = stand.lowers;
	// as the kernel's documents and composefs have it: a file with a size and an absolute redirect
	for (const [path, redirect, size] of [
		["one", "/objects/1", 12],
		["d/two", "/objects/2", 13],
		["lost", "/objects/3", 5],
	] as const) {
		execFileSync("truncate", ["-s", String(size), join(lower, path)]);
		execFileSync("setfattr", ["-n", "trusted.overlay.metacopy", join(lower, path)]);
		execFileSync("setfattr", ["-n", "trusted.overlay.redirect", "-v", redirect, join(lower, path)]);
	}
	stand.lowers.pop();
	stand.options = { dataLowers: [data] };
	const { problems } = await stand.adopt();
	assert.deepEqual(problems.length, 1);
	assert.match(problems[0], /\/lost: .*not there/);
	const opened = stand.open("serve");
	await opened.overlay.close();
	assert.throws(
		() =>
			openOverlay({
				...stand.options,
				lowers: [lower],
				dataLowers: [],
				upper: stand.upper,
				work: stand.work,
				stateFolder: stand.base,
				isSync: false,
				purpose: "serve",
			}),
		/data layers/,
	);
	rmSync(join(lower, "lost"));
	const tree = await stand.tree();
	assert.deepEqual([...tree.keys()].sort(), ["/d", "/d/f", "/d/g", "/d/two", "/one"]);
	assert.equal(tree.get("/one")?.text, "first object");
	assert.equal(tree.get("/d/two")?.text, "second object");
	const kernel = stand.base;
	execFileSync("mount", ["-t", "overlay", "overlay", "-o", `ro,lowerdir=${lower}::${data},metacopy=on,redirect_dir=on`, stand.mounted]);
	try {
		assert.deepEqual(sorted(kernelTree(stand.mounted)), sorted(texts(tree)), kernel);
	} finally {
		execFileSync("umount", [stand.mounted]);
	}
	await stand.run((overlay) => overlay.write(walk(overlay, "d/two"), ROOT, 0, bytes("S")));
	assert.equal((await stand.tree()).get("/d/two")?.text, "Second object");
	assert.equal(readFileSync(join(data, "objects/2"), "utf8"), "second object");
});

test("a release that is stopped before any of its calls can be begun again, or served on, and the kernel shows the same tree", {
	skip,
}, async (t) => {
	const prepared = async (): Promise<Stand> => {
		const made = new Stand(t, LOWERS);
		await made.run((overlay) => overlay.remove(walk(overlay, "links"), bytes("1"), ROOT));
		const { handle } = await made.at("m/sub/y");
		await made.close();
		// by its handle alone, so that only the index holds the copy
		await made.run((overlay) => overlay.write(overlay.decode(handle), ROOT, 0, bytes("Y")));
		await made.run((overlay) => overlay.rename(overlay.root, bytes("d"), overlay.root, bytes("D"), ROOT));
		return made;
	};
	let stand = await prepared();
	const expected = sorted(texts(await stand.tree()));
	let isServed = false;
	const calls = await atEachCall(
		// a stand takes a second on a busy machine
		volume(24, 6, 1),
		() => stand.release(),
		() => stand.abandon(),
		async (call) => {
			isServed = !isServed;
			if (isServed) {
				assert.deepEqual(sorted(texts(await stand.tree())), expected, `stopped before call ${call}, served`);
				await stand.close();
			}
			if (existsSync(join(stand.work, "work/incompat/holdfast"))) await stand.release();
			const kernel = stand.kernel("index=on,nfs_export=on,redirect_dir=on", kernelTree);
			assert.deepEqual(sorted(kernel), expected, `stopped before call ${call}`);
			stand = await prepared();
		},
	);
	t.diagnostic(`${calls} points`);
	assert.ok(calls > 8);
});
