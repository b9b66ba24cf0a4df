/** Who may do what: by the caller's uid, gids, the mode and POSIX ACLs, and by the squash options. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { Access3, type Nfs3Client, ok, refused } from "../support/nfs3-client.ts";
import { needs } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";

const skip = needs("root");
const alice = 1001;
const bob = 1002;
const staff = 2001;
const nobody = 65534;

async function serve(made: Scratch, prepare: (lower: string) => void, args: string[] = []): Promise<{ client: Nfs3Client; root: Buffer }> {
	const lower = made.folder("lower");
	chmodSync(lower, 0o777);
	prepare(lower);
	// Seen is the upper's own look, where there is one.
	const upper = made.folder("upper");
	chmodSync(upper, 0o777);
	const server = await startServer(made, { lowers: [lower], upper, args: ["--async", "--state-dir", made.folder("state"), ...args] });
	const client = await server.client();
	made.beforeRemoval(() => client.close());
	return { client, root: await client.root() };
}

function own(path: string, uid: number, gid: number, mode: number): void {
	chownSync(path, uid, gid);
	chmodSync(path, mode);
}

const all = 0x3f;

test("mode bits: owner, group by gid and by supplementary gid, others, root", { skip }, async (t) => {
	const { client, root } = await serve(scratch(t), (lower) => {
		plant(lower, { f: "secret", "d/inside": "x" });
		own(join(lower, "f"), alice, staff, 0o640);
		own(join(lower, "d"), alice, staff, 0o750);
	});
	const f = await client.walk(root, "f");
	const d = await client.walk(root, "d");
	const who: [string, Nfs3Client, read: boolean, write: boolean, enter: boolean, change: boolean][] = [
		["owner", client.as(alice, 1), true, true, true, true],
		["group", client.as(bob, staff), true, false, true, false],
		["supplementary group", client.as(bob, bob, [5, 6, staff, 7]), true, false, true, false],
		["other", client.as(bob, bob), false, false, false, false],
		["root", client.as(0, 0), true, true, true, true],
	];
	for (const [name, one, read, write, enter, change] of who) {
		const granted = (await ok(one.access(f, all), name)).granted;
		assert.equal((granted & Access3.read) !== 0, read, `${name}: ACCESS read`);
		assert.equal((granted & Access3.modify) !== 0, write, `${name}: ACCESS modify`);
		const inDirectory = (await ok(one.access(d, all), name)).granted;
		assert.equal((inDirectory & Access3.lookup) !== 0, enter, `${name}: ACCESS lookup`);
		assert.equal((inDirectory & Access3.delete) !== 0, change, `${name}: ACCESS delete`);
		if (read) assert.equal((await ok(one.read(f, 0n, 100))).data.toString(), "secret");
		else await refused(one.read(f, 0n, 100), "acces", `${name}: READ`);
		if (write) await ok(one.write(f, 0n, Buffer.from("s")), `${name}: WRITE`);
		else await refused(one.write(f, 0n, Buffer.from("X")), "acces", `${name}: WRITE`);
		if (enter) await ok(one.lookup(d, "inside"), `${name}: LOOKUP`);
		else await refused(one.lookup(d, "inside"), "acces", `${name}: LOOKUP`);
		if (read && enter) await ok(one.readdir(d, 0n, Buffer.alloc(8), 4096), `${name}: READDIR`);
		else await refused(one.readdir(d, 0n, Buffer.alloc(8), 4096), "acces", `${name}: READDIR`);
		if (change) {
			await ok(one.create(d, `by-${name}`), `${name}: CREATE`);
			await ok(one.remove(d, `by-${name}`), `${name}: REMOVE`);
		} else {
			await refused(one.create(d, `by-${name}`), "acces", `${name}: CREATE`);
			await refused(one.remove(d, "inside"), "acces", `${name}: REMOVE`);
		}
	}
	assert.equal((await client.readFile(f)).toString(), "secret");
});

test("the owner reads and writes a file of mode 0, and what is new belongs to its maker", { skip }, async (t) => {
	const { client, root } = await serve(scratch(t), (lower) => {
		plant(lower, { f: "mine" });
		own(join(lower, "f"), alice, alice, 0);
	});
	const f = await client.walk(root, "f");
	const owner = client.as(alice, alice);
	assert.equal((await ok(owner.read(f, 0n, 10))).data.toString(), "mine");
	await ok(owner.write(f, 0n, Buffer.from("MINE")));
	await refused(client.as(bob, bob).read(f, 0n, 10), "acces");
	const made = await ok(client.as(bob, staff).create(root, "new", { unchecked: { mode: 0o604 } }));
	assert.deepEqual([made.attributes?.uid, made.attributes?.gid, made.attributes?.mode], [bob, staff, 0o604]);
	const folder = await ok(client.as(bob, staff).mkdir(root, "folder", { mode: 0o2775 }));
	assert.deepEqual([folder.attributes?.uid, folder.attributes?.gid], [bob, staff]);
});

test("a setgid folder hands its group on; a sticky one keeps others from removing", { skip }, async (t) => {
	const { client, root } = await serve(scratch(t), (lower) => {
		plant(lower, { "shared/": "", "tmp/alices": "a" });
		own(join(lower, "shared"), 0, staff, 0o2777);
		own(join(lower, "tmp"), 0, 0, 0o1777);
		own(join(lower, "tmp/alices"), alice, alice, 0o666);
	});
	const shared = await client.walk(root, "shared");
	const inShared = await ok(client.as(bob, bob).create(shared, "f"));
	assert.equal(inShared.attributes?.gid, staff);
	const folder = await ok(client.as(bob, bob).mkdir(shared, "d"));
	assert.deepEqual([folder.attributes?.gid, (folder.attributes?.mode ?? 0) & 0o2000], [staff, 0o2000]);
	const tmp = await client.walk(root, "tmp");
	for (const reply of [client.as(bob, bob).remove(tmp, "alices"), client.as(bob, bob).rename(tmp, "alices", tmp, "x")]) {
		const { status } = await reply;
		assert.ok(status === 1 || status === 13, `perm or acces, not ${status}`);
	}
	await ok(client.as(alice, alice).remove(tmp, "alices"));
});

test("chmod, chown and times are the owner's or root's; a write takes the setuid bit away", { skip }, async (t) => {
	const { client, root } = await serve(scratch(t), (lower) => {
		plant(lower, { f: "x", suid: "x" });
		own(join(lower, "f"), alice, alice, 0o666);
		own(join(lower, "suid"), alice, alice, 0o6777);
	});
	const f = await client.walk(root, "f");
	const [owner, other] = [client.as(alice, alice, [staff]), client.as(bob, bob)];
	await refused(other.setattr(f, { mode: 0o777 }), "perm", "chmod by another");
	await refused(other.setattr(f, { mtime: { sec: 5, nsec: 0 } }), "perm", "utimes by another");
	await ok(other.setattr(f, { mtime: "server" }), "touch by one who may write");
	await ok(owner.setattr(f, { mode: 0o660 }), "chmod by the owner");
	await refused(owner.setattr(f, { uid: bob }), "perm", "chown by the owner");
	await ok(owner.setattr(f, { gid: staff }), "chgrp to a group of the owner's");
	await refused(owner.setattr(f, { gid: 4242 }), "perm", "chgrp to another group");
	await refused(other.setattr(f, { size: 0n }), "acces", "truncate by another");
	await ok(client.setattr(f, { uid: bob, gid: bob }), "chown by root");
	const suid = await client.walk(root, "suid");
	await ok(other.write(suid, 0n, Buffer.from("y")));
	assert.equal((await client.attributesOf(suid)).mode & 0o6000, 0, "setuid and setgid after another's write");
});

test("POSIX ACLs of a lower count, and live on after copy up", { skip: skip || needs("setfacl") }, async (t) => {
	const made = scratch(t);
	const { client, root } = await serve(made, (lower) => {
		plant(lower, { f: "secret", "d/inside": "x" });
		own(join(lower, "f"), alice, alice, 0o600);
		own(join(lower, "d"), alice, alice, 0o700);
		execFileSync("setfacl", ["-m", `u:${bob}:rw,g:${staff}:r`, join(lower, "f")]);
		execFileSync("setfacl", ["-m", `u:${bob}:rwx`, join(lower, "d")]);
		execFileSync("setfacl", ["-m", `d:u:${bob}:rwx`, join(lower, "d")]);
	});
	const f = await client.walk(root, "f");
	const d = await client.walk(root, "d");
	const check = async () => {
		await ok(client.as(bob, bob).read(f, 0n, 10), "READ by the user of the ACL");
		await ok(client.as(bob, bob).write(f, 0n, Buffer.from("S")), "WRITE by the user of the ACL");
		await ok(client.as(3333, 3333, [staff]).read(f, 0n, 10), "READ by the group of the ACL");
		await refused(client.as(3333, staff).write(f, 0n, Buffer.from("X")), "acces", "WRITE by the group of the ACL");
		await refused(client.as(3333, 3333).read(f, 0n, 10), "acces", "READ by one whom the ACL does not name");
		await ok(client.as(bob, bob).lookup(d, "inside"), "LOOKUP by the user of the ACL");
		await refused(client.as(3333, 3333).lookup(d, "inside"), "acces", "LOOKUP by another");
	};
	const before = (await ok(client.as(bob, bob).access(f, all))).granted;
	assert.equal(before & (Access3.read | Access3.modify), Access3.read | Access3.modify);
	await check();
	await check();
	const copied = execFileSync("getfacl", ["--numeric", "--omit-header", join(made.path, "upper/f")], {
		encoding: "utf8",
		stdio: ["ignore", "pipe", "ignore"],
	});
	assert.match(copied, new RegExp(`user:${bob}:rw-`));
	await ok(client.setattr(f, { mode: 0o600 }), "chmod sets the mask");
	await refused(client.as(bob, bob).read(f, 0n, 10), "acces", "READ with an empty mask");
	await ok(client.as(bob, bob).create(d, "heir", { unchecked: { mode: 0o600 } }), "CREATE by the user of the ACL");
	const heir = execFileSync("getfacl", ["--numeric", "--omit-header", join(made.path, "upper/d/heir")], {
		encoding: "utf8",
		stdio: ["ignore", "pipe", "ignore"],
	});
	assert.match(heir, new RegExp(`user:${bob}:rwx`), "the default ACL is handed on");
});

test("--root-squash makes root nobody, and no one else", { skip }, async (t) => {
	const { client, root } = await serve(
		scratch(t),
		(lower) => {
			plant(lower, { rootonly: "x", alices: "y" });
			own(join(lower, "rootonly"), 0, 0, 0o600);
			own(join(lower, "alices"), alice, alice, 0o600);
		},
		["--root-squash"],
	);
	await refused(client.as(0, 0).read(await client.walk(root, "rootonly"), 0n, 10), "acces");
	await ok(client.as(alice, alice).read(await client.walk(root, "alices"), 0n, 10));
	const made = await ok(client.as(0, 0, [0, staff]).create(root, "by-root"));
	assert.deepEqual([made.attributes?.uid, made.attributes?.gid], [nobody, nobody]);
});

test("--all-squash with --anon-uid and --anon-gid makes everybody that user", { skip }, async (t) => {
	const { client, root } = await serve(
		scratch(t),
		(lower) => {
			plant(lower, { alices: "y", anons: "z" });
			own(join(lower, "alices"), alice, alice, 0o600);
			own(join(lower, "anons"), 4001, 4002, 0o600);
		},
		["--all-squash", "--anon-uid", "4001", "--anon-gid", "4002"],
	);
	await refused(client.as(alice, alice).read(await client.walk(root, "alices"), 0n, 10), "acces");
	for (const [uid, gid] of [
		[0, 0],
		[alice, alice],
		[bob, staff],
	] as const) {
		await ok(client.as(uid, gid).read(await client.walk(root, "anons"), 0n, 10));
		const made = await ok(client.as(uid, gid, [staff]).create(root, `by-${uid}`));
		assert.deepEqual([made.attributes?.uid, made.attributes?.gid], [4001, 4002]);
	}
	const none = new (client.constructor as typeof Nfs3Client)(client.rpc, null);
	const made = await ok(none.create(root, "by-none"));
	assert.deepEqual([made.attributes?.uid, made.attributes?.gid], [4001, 4002], "AUTH_NONE");
});

test("without an upper everything is read-only", { skip }, async (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { f: "x", "d/g": "y" });
	const second = plant(made.folder("second"), { "d/h": "z" });
	const server = await startServer(made, { lowers: [lower, second], args: ["--state-dir", made.folder("state")] });
	const client = await server.client();
	const root = await client.root();
	const f = await client.walk(root, "f");
	assert.deepEqual((await client.list(await client.walk(root, "d"), { dots: false })).map(({ name }) => name).sort(), ["g", "h"]);
	await refused(client.write(f, 0n, Buffer.from("X")), "rofs", "WRITE");
	await refused(client.setattr(f, { mode: 0 }), "rofs", "SETATTR");
	await refused(client.create(root, "n"), "rofs", "CREATE");
	await refused(client.mkdir(root, "n"), "rofs", "MKDIR");
	await refused(client.symlink(root, "n", "x"), "rofs", "SYMLINK");
	await refused(client.remove(root, "f"), "rofs", "REMOVE");
	await refused(client.rmdir(root, "d"), "rofs", "RMDIR");
	await refused(client.rename(root, "f", root, "n"), "rofs", "RENAME");
	await refused(client.link(f, root, "n"), "rofs", "LINK");
	assert.equal((await ok(client.access(f, all))).granted & (Access3.modify | Access3.extend), 0);
	assert.equal((await client.readFile(f)).toString(), "x");
	client.close();
	await server.restart();
	const again = await server.client();
	assert.deepEqual(await again.root(), root, "handles hold without an upper too");
	assert.equal((await again.readFile(f)).toString(), "x");
	again.close();
});
