/** The whole tree `/` as a lower, with upper, work and state in it: what is kept for the export is shown to nobody. */

import assert from "node:assert/strict";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { giveTo } from "../support/held-tree.ts";
import { FileType3, type Nfs3Client, ok, refused } from "../support/nfs3-client.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../support/scratch.ts";
import { NOBODY, type OrdinaryUser, ordinaryUser, runHoldfast, startServer } from "../support/server-process.ts";

/** ext4, xfs and btrfs. */
const KINDS = new Set([0xef53, 0x58465342, 0x9123683e]);
const isInRoot = statSync(tmpdir()).dev === statSync("/").dev && KINDS.has(statfsSync("/").type);
const skip = needs("root") || (isInRoot ? false : "needs $TMPDIR on the file system of /, and that to be ext4, xfs or btrfs");

interface Place {
	readonly made: Scratch;
	/** Below the root of the export. */
	readonly inside: string;
	readonly upper: string;
	readonly work: string;
	readonly state: string;
	readonly user: OrdinaryUser | undefined;
}

function placeOf(made: Scratch, base: string, user?: OrdinaryUser): Place {
	chmodSync(made.path, 0o755);
	const [upper, work, state, closed] = ["upper", "work", "state", "closed"].map((name) => join(base, name)) as [
		string,
		string,
		string,
		string,
	];
	for (const path of [upper, work, state, closed]) mkdirSync(path);
	writeFileSync(join(state, "secret"), "secret");
	writeFileSync(join(closed, "file"), "closed");
	chmodSync(closed, 0o700);
	writeFileSync(join(base, "beside"), "beside");
	if (user !== undefined) {
		giveTo(user, upper, work, state);
		chownSync(base, user.uid, user.gid);
	}
	return { made, inside: base.slice(1), upper, work, state, user };
}

async function start({ made, upper, work, state, user }: Place, isReadOnly = false) {
	return await startServer(made, {
		lowers: ["/"],
		...(isReadOnly ? {} : { upper, work }),
		args: ["--state-dir", state],
		...(user === undefined ? {} : { user }),
	});
}

async function names(client: Nfs3Client, directory: Buffer): Promise<string[]> {
	const plain = (await client.list(directory, { dots: false })).map(({ name }) => name).sort();
	assert.deepEqual((await client.listPlus(directory, { dots: false })).map(({ name }) => name).sort(), plain);
	return plain;
}

for (const who of ["root", "an ordinary user"] as const) {
	test(`/ is served by ${who}, without what is kept in it`, { skip }, async (t) => {
		const made = scratch(t);
		const user = who === "root" ? undefined : ordinaryUser(made);
		const place = placeOf(made, made.folder("place"), user);
		const server = await start(place);
		let client = await server.client();
		const root = await client.root();
		const top = new Set(await names(client, root));
		for (const name of readdirSync("/")) assert.ok(top.has(name), name);
		assert.equal((await client.readFile(await client.walk(root, "etc/passwd"))).toString(), readFileSync("/etc/passwd", "utf8"));
		// what is mounted is not seen, and is no error
		for (const name of ["proc", "sys"]) assert.deepEqual(await names(client, await client.walk(root, name)), [], name);
		let inside = await client.walk(root, place.inside);
		const shown = readdirSync(`/${place.inside}`).filter((name) => !["upper", "work", "state"].includes(name));
		assert.deepEqual(await names(client, inside), shown.sort());
		for (const name of ["upper", "work", "state"]) await refused(client.lookup(inside, name), "noent", name);
		// by parents: the one above is the only one that has them
		const closed = await client.walk(inside, "closed");
		const above = await client.lookup(closed, "..");
		assert.ok(above.status !== 0 || above.handle.equals(inside));
		if (user === undefined) assert.equal((await client.readFile(await client.walk(closed, "file"))).toString(), "closed");
		else {
			await refused(client.lookup(closed, "file"), "acces");
			await refused(client.readdir(closed, 0n, Buffer.alloc(8), 4096), "acces");
			await refused(client.lookup(await client.walk(root, "root"), "x"), "acces");
		}
		// names of what is kept are free, and lead to nothing of it
		const file = await client.createFile(inside, "moved", "moved");
		const free = await client.makeDirectory(inside, "upper");
		assert.deepEqual(await names(client, free), []);
		await ok(client.rename(inside, "moved", free, "moved"), "rename");
		await ok(client.rename(inside, "beside", free, "beside"), "rename of an object of the lower");
		assert.deepEqual(await names(client, free), ["beside", "moved"]);
		assert.ok(!existsSync(join(place.upper, "moved")) && existsSync(join(place.upper, place.inside, "upper/moved")));
		client.close();
		await server.restart();
		client = await server.client();
		inside = await client.walk(await client.root(), place.inside);
		assert.deepEqual(await client.walk(inside, "upper/moved"), file);
		assert.deepEqual(await names(client, await client.walk(inside, "upper")), ["beside", "moved"]);
		for (const name of ["work", "state"]) await refused(client.lookup(inside, name), "noent", name);
		await ok(client.remove(free, "moved"), "remove");
		await ok(client.remove(free, "beside"), "remove");
		await ok(client.rmdir(inside, "upper"), "rmdir");
		await refused(client.lookup(inside, "upper"), "noent");
		assert.equal((await client.attributesOf(inside)).type, FileType3.dir);
		client.close();
		await server.terminate();
		assert.equal(readFileSync(join(place.state, "secret"), "utf8"), "secret");
		if (user === undefined) {
			const checked = runHoldfast(["check", "--lower", "/", "--upper", place.upper, "--work", place.work]);
			assert.equal(checked.code, 0, checked.stdout + checked.stderr);
		} else assert.equal(statSync(join(place.work, "holdfast")).uid, NOBODY);
	});
}

test("/ is served read-only, without its state", { skip }, async (t) => {
	const made = scratch(t);
	const place = placeOf(made, made.folder("place"));
	const server = await start(place, true);
	const client = await server.client();
	const inside = await client.walk(await client.root(), place.inside);
	assert.deepEqual(await names(client, inside), ["beside", "closed", "upper", "work"]);
	await refused(client.lookup(inside, "state"), "noent");
	client.close();
	await server.terminate();
});

test("/ is served with an upper on another file system, which is mounted in it", { skip: skip || cannotMount("ext4") }, async (t) => {
	const made = scratch(t);
	const base = made.mount("ext4", "disk", 64);
	const place = placeOf(made, base);
	const server = await start(place);
	const client = await server.client();
	const inside = await client.walk(await client.root(), place.inside);
	assert.deepEqual(await names(client, inside), []);
	await client.createFile(inside, "new", "new");
	assert.equal(readFileSync(join(place.upper, place.inside, "new"), "utf8"), "new");
	client.close();
	await server.terminate();
});
