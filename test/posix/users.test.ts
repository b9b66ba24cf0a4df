/** What ordinary users may do and what becomes of it, against what the same users get in a plain local folder. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, lstatSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { HeldTree } from "../support/held-tree.ts";
import { FileType3, type Nfs3Client, ok, refused, statusName } from "../support/nfs3-client.ts";
import { needs, volume } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";

const skip = needs("root", "perl", "setpriv", "setfacl");
const alice = 1001;
const bob = 1002;
const staff = 2001;

/** The export, and a local twin of its lower: whoever does the same in both must get the same. */
interface Twins {
	readonly client: Nfs3Client;
	readonly root: Buffer;
	readonly upper: string;
	readonly local: string;
}

async function serve(made: Scratch, prepare: (top: string) => void): Promise<Twins> {
	chmodSync(made.path, 0o755);
	const lower = made.folder("lower");
	const local = made.folder("local");
	const upper = made.folder("upper");
	for (const top of [lower, local]) {
		chmodSync(top, 0o777);
		prepare(top);
	}
	chmodSync(upper, 0o777);
	const server = await startServer(made, { lowers: [lower], upper, args: ["--async", "--state-dir", made.folder("state")] });
	const client = await server.client();
	made.beforeRemoval(() => client.close());
	return { client, root: await client.root(), upper, local };
}

function plantOwned(top: string, path: string, uid: number, gid: number, mode: number, contents?: string): string {
	const at = join(top, path);
	mkdirSync(dirname(at), { recursive: true });
	if (contents === undefined) mkdirSync(at, { recursive: true });
	else writeFileSync(at, contents);
	chownSync(at, uid, gid);
	chmodSync(at, mode);
	return at;
}

/** A line of perl in a local folder, as a user, without a umask; 0 or the error number. */
function locally(folder: string, uid: number, gid: number, gids: readonly number[], script: string): number {
	const groups = gids.length > 0 ? [`--groups=${gids.join(",")}`] : ["--clear-groups"];
	const whole = `use Fcntl; use POSIX (); umask 0; chdir shift or die "chdir: $!"; exit(($! + 0) || 255) unless (${script}); exit 0;`;
	try {
		execFileSync("setpriv", [`--reuid=${uid}`, `--regid=${gid}`, ...groups, "perl", "-e", whole, folder], { stdio: "pipe" });
		return 0;
	} catch (error) {
		return (error as { status: number }).status;
	}
}

const errnoOf: Readonly<Record<string, number>> = {
	ok: 0,
	perm: 1,
	noent: 2,
	acces: 13,
	exist: 17,
	notdir: 20,
	isdir: 21,
	inval: 22,
	notempty: 39,
};
const errorOf = (status: number) => errnoOf[statusName(status)] ?? `status ${status}`;

test("sticky directories: who removes, renames and replaces whose, as in a local folder", { skip }, async (t) => {
	const made = scratch(t);
	const people: Record<"root" | "alice" | "bob", [number, number]> = { root: [0, 0], alice: [alice, alice], bob: [bob, bob] };
	const acts = ["remove", "rename", "replace", "rmdir", "rename directory"] as const;
	const cases = (["root", "alice"] as const).flatMap((owner) =>
		(["alice", "bob"] as const).flatMap((victim) =>
			(Object.keys(people) as (keyof typeof people)[]).flatMap((actor) =>
				acts.map((act) => ({ owner, victim, actor, act, folder: `${owner}-${victim}-${actor}-${act.replace(" ", "-")}` })),
			),
		),
	);
	const it = await serve(made, (top) => {
		for (const { owner, victim, actor, folder } of cases) {
			plantOwned(top, folder, ...people[owner], 0o1777);
			plantOwned(top, `${folder}/file`, ...people[victim], 0o666, "x");
			plantOwned(top, `${folder}/dir`, ...people[victim], 0o777);
			plantOwned(top, `${folder}/mine`, ...people[actor], 0o666, "mine");
		}
	});
	for (const { owner, victim, actor, act, folder } of cases) {
		const one = it.client.as(...people[actor]);
		const directory = await it.client.walk(it.root, folder);
		// Half of them in a directory that was copied up.
		if (victim === "bob") await ok(it.client.setattr(directory, { mtime: { sec: 1, nsec: 0 } }));
		const { status } =
			act === "remove"
				? await one.remove(directory, "file")
				: act === "rename"
					? await one.rename(directory, "file", directory, "other")
					: act === "replace"
						? await one.rename(directory, "mine", directory, "file")
						: act === "rmdir"
							? await one.rmdir(directory, "dir")
							: await one.rename(directory, "dir", directory, "other");
		const script = {
			remove: 'unlink "file"',
			rename: 'rename "file", "other"',
			replace: 'rename "mine", "file"',
			rmdir: 'rmdir "dir"',
			"rename directory": 'rename "dir", "other"',
		}[act];
		const expected = locally(join(it.local, folder), ...people[actor], [], script);
		assert.equal(errorOf(status), expected, `${act} by ${actor} of ${victim}'s in a sticky directory of ${owner}'s`);
	}
});

test("a setgid directory hands its group on, and who is not of a group cannot set its bit, as in a local folder", { skip }, async (t) => {
	const made = scratch(t);
	const it = await serve(made, (top) => {
		plantOwned(top, "shared", 0, staff, 0o2777);
		plantOwned(top, "plain", 0, staff, 0o777);
		plantOwned(top, "mine", bob, staff, 0o664, "x");
		plantOwned(top, "mine-dir", bob, staff, 0o775);
	});
	const see = (path: string) => {
		const { uid, gid, mode } = lstatSync(path);
		return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`;
	};
	for (const gids of [[], [staff]]) {
		const one = it.client.as(bob, bob, gids);
		for (const folder of ["shared", "plain"]) {
			const directory = await it.client.walk(it.root, folder);
			const suffix = gids.length;
			for (const mode of [0o664, 0o2775, 0o4755]) {
				const text = mode.toString(8);
				await ok(one.create(directory, `file${text}-${suffix}`, { guarded: { mode } }));
				// mkdir(2) takes no other bits; MKDIR may.
				await ok(one.mkdir(directory, `dir${text}-${suffix}`, { mode: mode & 0o777 }));
				await ok(one.mknod(directory, `fifo${text}-${suffix}`, FileType3.fifo, { mode }));
				const script = `sysopen(my $f, "file${text}-${suffix}", O_CREAT|O_EXCL|O_WRONLY, 0${text}) && mkdir("dir${text}-${suffix}", 0${text}) && POSIX::mkfifo("fifo${text}-${suffix}", 0${text})`;
				assert.equal(locally(join(it.local, folder), bob, bob, gids, script), 0);
				for (const kind of ["file", "dir", "fifo"]) {
					const path = `${folder}/${kind}${text}-${suffix}`;
					assert.equal(see(join(it.upper, path)), see(join(it.local, path)), `${path}, groups ${gids}`);
				}
			}
			await ok(one.symlink(directory, `link-${suffix}`, "x"));
			assert.equal(locally(join(it.local, folder), bob, bob, gids, `symlink "x", "link-${suffix}"`), 0);
			const [made3, here] = [lstatSync(join(it.upper, folder, `link-${suffix}`)), lstatSync(join(it.local, folder, `link-${suffix}`))];
			assert.deepEqual([made3.uid, made3.gid], [here.uid, here.gid], "owner and group of a symlink");
		}
	}
});

for (const name of ["file", "directory"]) {
	test(`chmod g+s of a ${name} by its owner, who is not of its group, leaves the bit out, as in a local folder`, {
		skip,
	}, async (t) => {
		const made = scratch(t);
		const it = await serve(made, (top) => {
			for (const path of ["member", "stranger"]) plantOwned(top, path, bob, staff, 0o775, name === "file" ? "x" : undefined);
		});
		for (const [path, gids] of [
			["member", [staff]],
			["stranger", []],
		] as const) {
			await ok(it.client.as(bob, bob, gids).setattr(await it.client.walk(it.root, path), { mode: 0o2775 }));
			assert.equal(locally(it.local, bob, bob, gids, `chmod 02775, "${path}"`), 0);
			const [found, expected] = [join(it.upper, path), join(it.local, path)].map((each) => (lstatSync(each).mode & 0o7777).toString(8));
			assert.equal(found, expected, path);
		}
	});
}

test("setuid and setgid bits go at a write, truncation or chown by an ordinary user, as in a local folder", { skip }, async (t) => {
	const made = scratch(t);
	// Without group execution the setgid bit says something else, and kernels differ.
	const modes = [0o4755, 0o6777, 0o2777, 0o4711];
	const acts = ["write", "truncate", "chgrp"] as const;
	const users = { owner: alice, other: bob, root: 0 } as const;
	const cases = modes.flatMap((mode) =>
		acts.flatMap((act) =>
			(Object.keys(users) as (keyof typeof users)[]).map((user) => ({
				mode: mode | 0o022,
				act,
				user,
				path: `${mode.toString(8)}-${act}-${user}`,
			})),
		),
	);
	const it = await serve(made, (top) => {
		for (const { mode, path } of cases) plantOwned(top, path, alice, alice, mode, "0123456789");
	});
	for (const { act, user, path } of cases) {
		if (act === "chgrp" && user === "other") continue;
		const uid = users[user];
		const one = it.client.as(uid, uid, [staff]);
		const handle = await it.client.walk(it.root, path);
		if (act === "write") await ok(one.write(handle, 2n, Buffer.from("W")), path);
		if (act === "truncate") await ok(one.setattr(handle, { size: 5n }), path);
		if (act === "chgrp") await ok(one.setattr(handle, { gid: staff }), path);
		const script = {
			write: `sysopen($f, "${path}", O_WRONLY) && sysseek($f, 2, 0) && syswrite($f, "W")`,
			truncate: `truncate("${path}", 5)`,
			chgrp: `chown(-1, ${staff}, "${path}")`,
		}[act];
		assert.equal(locally(it.local, uid, uid, [staff], script), 0, path);
		const [found, expected] = [await it.client.attributesOf(handle), lstatSync(join(it.local, path))];
		assert.equal(found.mode.toString(8), (expected.mode & 0o7777).toString(8), `mode after ${act} by ${user} (${path})`);
		assert.deepEqual([found.uid, found.gid], [expected.uid, expected.gid], path);
	}
});

test("default ACLs of a lower directory: what is made over NFS has the ACL that a local create gives", { skip }, async (t) => {
	const made = scratch(t);
	const acls = {
		user: `u:${bob}:rwx`,
		groups: `g:${staff}:r-x,g:2002:rwx`,
		mask: `u:${bob}:rwx,g:${staff}:rwx,m::r-x`,
		narrow: `u::rwx,g::---,o::---,u:${bob}:rw-`,
		plain: "u::rwx,g::r-x,o::---",
	};
	const it = await serve(made, (top) => {
		for (const [name, acl] of Object.entries(acls)) {
			const at = plantOwned(top, name, alice, staff, 0o2777);
			execFileSync("setfacl", ["-d", "-m", acl, at]);
		}
	});
	const see = (path: string) =>
		execFileSync("getfacl", ["--numeric", "--omit-header", "--absolute-names", path], { encoding: "utf8" }) +
		(({ uid, gid, mode }) => `${uid}:${gid} ${(mode & 0o7777).toString(8)}`)(lstatSync(path));
	for (const folder of Object.keys(acls)) {
		const directory = await it.client.walk(it.root, folder);
		for (const mode of [0o777, 0o666, 0o640, 0o600, 0o711]) {
			const text = mode.toString(8);
			const one = it.client.as(bob, bob);
			await ok(one.create(directory, `file${text}`, { guarded: { mode } }));
			await ok(one.create(directory, `unchecked${text}`, { unchecked: { mode } }));
			const { handle } = await ok(one.mkdir(directory, `dir${text}`, { mode }));
			await ok(one.mknod(directory, `fifo${text}`, FileType3.fifo, { mode }));
			const open = (name: string) => `sysopen(my $f${name}, "${name}${text}", O_CREAT|O_EXCL|O_WRONLY, 0${text})`;
			const script = `${open("file")} && ${open("unchecked")} && mkdir("dir${text}", 0${text}) && POSIX::mkfifo("fifo${text}", 0${text})`;
			assert.equal(locally(join(it.local, folder), bob, bob, [], script), 0);
			// And once more below what was made.
			await ok(it.client.create(handle as Buffer, "deeper", { guarded: { mode } }));
			assert.equal(
				locally(join(it.local, folder, `dir${text}`), 0, 0, [], `sysopen(my $f, "deeper", O_CREAT|O_EXCL|O_WRONLY, 0${text})`),
				0,
			);
			for (const name of [`file${text}`, `unchecked${text}`, `dir${text}`, `fifo${text}`, `dir${text}/deeper`]) {
				assert.equal(see(join(it.upper, folder, name)), see(join(it.local, folder, name)), `${folder}/${name}`);
			}
		}
	}
});

test("RENAME of a file, REMOVE, LINK and CREATE set the times of the parents, and the change time of the object", { skip }, async (t) => {
	const made = scratch(t);
	const it = await HeldTree.start(made, made.path, [{ "from/f": "f", "from/g": "g", "to/x": "x" }]);
	await it.takeAll();
	const old = { sec: 1_000_000_000, nsec: 0 };
	const attributes = (path: string) => it.client.attributesOf(it.get(path).handle);
	const after = async (what: string, act: () => Promise<void>, touched: string[], untouched: string[]) => {
		for (const path of [...touched, ...untouched]) await ok(it.client.setattr(it.get(path).handle, { mtime: old }));
		const before = new Map<string, unknown>();
		for (const path of touched) before.set(path, (await attributes(path)).ctime);
		await new Promise((resolve) => setTimeout(resolve, 15));
		await act();
		for (const path of touched) {
			const { mtime, ctime } = await attributes(path);
			assert.notDeepEqual(mtime, old, `${what}: mtime of ${path}`);
			assert.notDeepEqual(ctime, before.get(path), `${what}: ctime of ${path}`);
		}
		for (const path of untouched) assert.deepEqual((await attributes(path)).mtime, old, `${what}: mtime of ${path}`);
	};
	await after("RENAME", () => it.rename("from/f", "to/f"), ["from", "to"], []);
	await after("RENAME back", () => it.rename("to/f", "from/f"), ["from", "to"], []);
	await after("LINK", () => it.link("from/f", "to/linked"), ["to"], ["from"]);
	await after("REMOVE", () => it.remove("from/f"), ["from"], ["to"]);
	await after("CREATE", () => it.createFile("from/new", ""), ["from"], ["to"]);
	const { ctime } = await attributes("from/g");
	await it.rename("from/g", "to/g");
	assert.notDeepEqual((await attributes("to/g")).ctime, ctime, "ctime of a file that was renamed");
	await it.check("at the end", "SIGKILL");
});

test("RMDIR and RENAME onto: a directory that holds whiteouts only is empty, one more name and it is not", { skip }, async (t) => {
	const made = scratch(t);
	const it = await HeldTree.start(made, made.path, [
		{ "one/a": "a", "one/b": "b", "two/a": "a", "three/a": "a", "mover/inside": "i", "four/sub/a": "a" },
		{ "one/c": "c", "two/below/x": "x", "four/sub/b": "b" },
	]);
	await it.takeAll();
	for (const path of ["one/a", "one/b"]) await it.remove(path);
	await refused(it.client.rmdir(it.root, "one"), "notempty", "RMDIR with one name of the second lower left");
	await refused(it.client.rename(it.root, "mover", it.root, "one"), "notempty", "RENAME onto it");
	await it.remove("one/c");
	await it.remove("two/a");
	await refused(it.client.rmdir(it.root, "two"), "notempty", "RMDIR with a directory of the second lower left");
	await it.remove("three/a");
	await it.createFile("three/new", "");
	await refused(it.client.rmdir(it.root, "three"), "notempty", "RMDIR with a name of the upper left");
	await it.remove("three/new");
	for (const path of ["four/sub/a", "four/sub/b", "four/sub", "four"]) await it.remove(path);
	await it.restart("SIGKILL");
	await it.remove("three");
	await it.rename("mover", "one");
	await it.check("after RMDIR and RENAME onto");
	await it.makeDirectory("three");
	await it.makeDirectory("four");
	await it.check("made again, opaque", "SIGKILL");
});

test("a path of very many directories in a lower: created at the bottom, found from cold, moved from the bottom and at the top", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const depth = volume(300, 1_000);
	const half = depth / 2;
	const deep = depth - 100;
	const path = Array.from({ length: depth }, () => "d").join("/");
	const lower = made.folder("lower");
	mkdirSync(join(lower, path), { recursive: true });
	writeFileSync(join(lower, path, "leaf"), "leaf");
	const server = await startServer(made, {
		lowers: [lower],
		upper: made.folder("upper"),
		args: ["--async", "--state-dir", made.folder("state")],
	});
	let client = await server.client();
	const root = await client.root();
	const chain = [root];
	for (let level = 0; level < depth; level += 1) chain.push((await ok(client.lookup(chain[level] as Buffer, "d"))).handle);
	const bottom = chain[depth] as Buffer;
	const leaf = await client.walk(bottom, "leaf");
	const cold = async (what: string) => {
		client.close();
		await server.kill();
		await server.start();
		client = await server.client();
		const began = Date.now();
		await client.attributesOf(bottom);
		t.diagnostic(`${what}: first GETATTR of the bottom after SIGKILL: ${Date.now() - began} ms`);
	};
	await cold("untouched");
	assert.deepEqual((await ok(client.lookup(bottom, ".."))).handle, chain[depth - 1]);
	await cold("before CREATE");
	const began = Date.now();
	const born = await client.createFile(bottom, "born", "born at the bottom");
	t.diagnostic(`CREATE at the bottom, which copies up ${depth} directories: ${Date.now() - began} ms`);
	await cold("copied up");
	assert.equal((await client.readFile(born)).toString(), "born at the bottom");
	assert.deepEqual((await client.list(bottom, { dots: false })).map(({ name }) => name).sort(), ["born", "leaf"]);
	await client.writeFile(leaf, "LEAF");
	const check = async (from: Buffer, levels: number) => {
		let at = from;
		for (let level = 0; level < levels; level += 1) at = (await ok(client.lookup(at, "d"), `LOOKUP at level ${level}`)).handle;
		assert.deepEqual(at, bottom);
		assert.equal((await client.readFile(leaf)).toString(), "LEAF");
		assert.deepEqual(await client.walk(bottom, "leaf"), leaf);
		assert.deepEqual(await client.walk(bottom, "born"), born);
	};
	await check(root, depth);
	await ok(client.rename(root, "d", root, "top"), "RENAME at the top");
	await cold("top renamed");
	await check(await client.walk(root, "top"), depth - 1);
	await ok(client.rename(chain[half] as Buffer, "d", root, "half"), "RENAME from the middle to the root");
	await cold("middle moved to the root");
	await check(await client.walk(root, "half"), depth - half - 1);
	await ok(client.rename(chain[depth - 1] as Buffer, "d", root, "bottom"), "RENAME from the bottom to the root");
	await cold("bottom moved to the root");
	await check(await client.walk(root, "bottom"), 0);
	await ok(client.rename(root, "half", chain[half] as Buffer, "back"), "RENAME back into the depth");
	await refused(client.rename(root, "top", chain[deep] as Buffer, "loop"), "inval", "RENAME into a child far below");
	await cold("back again");
	await client.attributesOf(chain[deep] as Buffer);
	client.close();
});
