/** Promise H5: looking up, listing, reading and handing out handles leaves no trace on disk. */

import assert from "node:assert/strict";
import { linkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { plant, plantMany } from "../support/lower-tree.ts";
import { FileType3, ok } from "../support/nfs3-client.ts";
import { needs, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";
import { assertSameTree, snapshotTree, type TreeSnapshot } from "../support/tree-snapshot.ts";

const FILES = Number(process.env.HOLDFAST_TEST_WALK_FILES ?? volume(10_000, 100_000));

test(`a walk of ${FILES} lower files by READDIRPLUS and LOOKUP writes nothing`, { skip: needs("root", "getfattr") }, async (t) => {
	const made = scratch(t);
	const seconds = (since: number) => ((Date.now() - since) / 1000).toFixed(1);
	let started = Date.now();
	// A journal of its own, where that can be: making so many files takes a minute when others flush theirs.
	const base = made.mount(cannotMount("ext4") ? "root" : "ext4", "layers", 640);
	const folder = (name: string) => made.folder(`layers/${name}`);
	const top = plant(join(base, "top"), { "links/one": "linked", "sub/link": { link: "elsewhere" }, "d0/e0/f1": "over" });
	linkSync(join(top, "links/one"), join(top, "links/two"));
	const bottom = folder("bottom");
	const paths = plantMany(bottom, FILES);
	t.diagnostic(`${FILES} files made in ${seconds(started)} s`);
	const [upper, work, state] = [folder("upper"), folder("work"), folder("state")];
	const server = await startServer(made, { lowers: [top, bottom], upper, work, args: ["--state-dir", state] });
	const picture = (): TreeSnapshot[] => [upper, work, state].map((folder) => snapshotTree(folder, { exact: true }));
	const client = await server.client();
	const root = await client.root();
	const before = picture();

	started = Date.now();
	const tree = await client.tree(root);
	t.diagnostic(`READDIRPLUS of ${tree.size} objects in ${seconds(started)} s`);
	assert.equal([...tree.values()].filter(({ attributes }) => attributes.type === FileType3.reg).length, FILES + 2);
	for (const path of paths) assert.ok(tree.has(path), `${path} was not listed`);

	started = Date.now();
	const parents = new Map<string, Buffer>([["", root]]);
	for (const [path, { handle, attributes }] of tree) if (attributes.type === FileType3.dir) parents.set(path, handle);
	const all = [...tree];
	for (let at = 0; at < all.length; at += 256) {
		await Promise.all(
			all.slice(at, at + 256).map(async ([path, { handle, attributes, fileidInListing }]) => {
				const cut = path.lastIndexOf("/");
				const found = await ok(
					client.lookup(parents.get(path.slice(0, Math.max(0, cut))) as Buffer, path.slice(cut + 1)),
					`LOOKUP ${path}`,
				);
				if (!found.handle.equals(handle)) assert.fail(`${path}: LOOKUP and READDIRPLUS gave different handles`);
				if (attributes.fileid !== fileidInListing || found.attributes?.fileid !== fileidInListing)
					assert.fail(`${path}: different file ids`);
			}),
		);
	}
	t.diagnostic(`LOOKUP of ${tree.size} objects in ${seconds(started)} s`);
	assert.equal(
		new Set([...tree.values()].map(({ handle }) => handle.toString("latin1"))).size,
		tree.size - 1,
		"one handle for each object, two names share one",
	);

	started = Date.now();
	for (const path of paths.filter((_, index) => index % 97 === 0)) {
		const { handle } = tree.get(path) as { handle: Buffer };
		const index = Number(/f(\d+)$/.exec(path)?.[1]);
		assert.equal((await client.readFile(handle)).toString(), path === "d0/e0/f1" ? "over" : `file ${index}\n`);
		await ok(client.access(handle, 0x3f));
	}
	await ok(client.readlink((tree.get("sub/link") as { handle: Buffer }).handle));
	for (const handle of parents.values()) await client.list(handle);
	for (const call of [client.fsstat(root), client.fsinfo(root), client.pathconf(root), client.commit(root)]) await call;
	await client.dump();
	await client.exports();
	t.diagnostic(`READ, ACCESS, READDIR in ${seconds(started)} s`);

	const after = picture();
	for (const [index, name] of ["upper", "work", "state"].entries()) {
		assertSameTree(before[index] as TreeSnapshot, after[index] as TreeSnapshot, `reading changed the ${name} folder`);
	}
	client.close();
});
