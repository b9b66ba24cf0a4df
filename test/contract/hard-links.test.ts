/** Promise H7: the names of a lower file stay names of one object, whatever is written or removed. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { linkSync, lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { type Nfs3Client, ok, statusName } from "../support/nfs3-client.ts";
import { needs, sampled } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";
import { assertSameTree, snapshotTree } from "../support/tree-snapshot.ts";

const skip = needs("root", "getfattr");

interface Layers {
	readonly lowers: string[];
	readonly upper: string;
	readonly state: string;
}

/** The same file by names in one folder, in two, and by one that lies outside the layer. */
function oneLower(made: Scratch): { layers: Layers; names: string[]; links: number } {
	const lower = plant(made.folder("lower"), { "a/first": "the contents", "b/": "", other: "other" });
	const outside = made.folder("outside");
	linkSync(join(lower, "a/first"), join(lower, "a/second"));
	linkSync(join(lower, "a/first"), join(lower, "b/third"));
	linkSync(join(lower, "a/first"), join(outside, "fourth"));
	return {
		layers: { lowers: [lower], upper: made.folder("upper"), state: made.folder("state") },
		names: ["a/first", "a/second", "b/third"],
		links: 4,
	};
}

/** Two lowers, one made from the other by `cp -al`: the same inodes under both. */
function twoLowers(made: Scratch): { layers: Layers; names: string[]; links: number } {
	const bottom = plant(made.folder("bottom"), { "a/first": "the contents", "a/only": "only", "c/fifth": "fifth" });
	const top = join(made.path, "top");
	execFileSync("cp", ["-al", bottom, top]);
	linkSync(join(bottom, "a/first"), join(bottom, "c/hidden"));
	execFileSync("mv", [join(top, "a"), join(top, "renamed")]);
	// The union now shows a/first and c/hidden from the bottom, renamed/first from the top: three names, links of one inode.
	return {
		layers: { lowers: [top, bottom], upper: made.folder("upper"), state: made.folder("state") },
		names: ["a/first", "renamed/first", "c/hidden"],
		links: 3,
	};
}

async function serve(made: Scratch, layers: Layers): Promise<ServerProcess> {
	return startServer(made, { lowers: layers.lowers, upper: layers.upper, args: ["--async", "--state-dir", layers.state] });
}

async function assertOneObject(
	client: Nfs3Client,
	root: Buffer,
	names: readonly string[],
	handle: Buffer,
	links: number,
	contents: string,
) {
	const { fileid } = await client.attributesOf(handle);
	for (const name of names) {
		const found = await client.walk(root, name);
		assert.deepEqual(found, handle, `handle of ${name}`);
		const attributes = await client.attributesOf(found);
		assert.equal(attributes.fileid, fileid, `fileid of ${name}`);
		assert.equal(attributes.nlink, links, `nlink by ${name}`);
		assert.equal((await client.readFile(found)).toString(), contents, `contents by ${name}`);
		const parent = await client.walk(root, name.split("/").slice(0, -1).join("/"));
		const entry = (await client.listPlus(parent)).find((one) => one.name === name.split("/").at(-1));
		assert.deepEqual(entry?.handle, handle, `handle of ${name} by READDIRPLUS`);
		assert.equal(entry?.fileid, fileid, `fileid of ${name} by READDIRPLUS`);
		assert.equal(entry?.attributes?.nlink, links, `nlink of ${name} by READDIRPLUS`);
	}
}

async function remove(client: Nfs3Client, root: Buffer, name: string): Promise<void> {
	const parent = await client.walk(root, name.split("/").slice(0, -1).join("/"));
	await ok(client.remove(parent, name.split("/").at(-1) as string), `REMOVE ${name}`);
}

for (const [kind, make] of [
	["in one lower, with one outside", oneLower],
	["across two lowers", twoLowers],
] as const) {
	for (const written of sampled([0, 1, 2], 1)) {
		test(`hard links ${kind}: written through name ${written + 1}, read through the others, removed one by one`, { skip }, async (t) => {
			const made = scratch(t);
			const { layers, names, links } = make(made);
			const before = layers.lowers.map((lower) => snapshotTree(lower));
			const server = await serve(made, layers);
			let client = await server.client();
			const root = await client.root();
			const handle = await client.walk(root, names[0] as string);
			await assertOneObject(client, root, names, handle, links, "the contents");
			const restart = async () => {
				client.close();
				await server.restart();
				client = await server.client();
			};
			await restart();
			await assertOneObject(client, root, names, handle, links, "the contents");

			await client.writeFile(await client.walk(root, names[written] as string), "THE");
			await assertOneObject(client, root, names, handle, links, "THE contents");
			await restart();
			await assertOneObject(client, root, names, handle, links, "THE contents");

			let left = links;
			const rest = [...names.slice(written), ...names.slice(0, written)];
			while (rest.length > 0) {
				await remove(client, root, rest.shift() as string);
				left -= 1;
				if (rest.length > 0) await assertOneObject(client, root, rest, handle, left, "THE contents");
				await restart();
				if (rest.length > 0) await assertOneObject(client, root, rest, handle, left, "THE contents");
			}
			const { status } = await client.getattr(handle);
			if (left === 0) assert.equal(statusName(status), "stale", "after the last name");
			else assert.equal((await client.readFile(handle)).toString(), "THE contents", "one more name lies outside: the object lives on");
			for (const [index, lower] of layers.lowers.entries()) {
				assertSameTree(before[index] as never, snapshotTree(lower), `lower ${index} was written to`);
			}
			client.close();
		});
	}

	test(`hard links ${kind}: removed one by one without a write, nothing is copied`, { skip }, async (t) => {
		const made = scratch(t);
		const { layers, names, links } = make(made);
		const server = await serve(made, layers);
		let client = await server.client();
		const root = await client.root();
		const handle = await client.walk(root, names[0] as string);
		const rest = [...names];
		let left = links;
		while (rest.length > 0) {
			await remove(client, root, rest.shift() as string);
			left -= 1;
			client.close();
			await server.restart();
			client = await server.client();
			if (rest.length > 0) await assertOneObject(client, root, rest, handle, left, "the contents");
		}
		const copies = [...snapshotTree(layers.upper)].filter(([, line]) => line.startsWith("reg"));
		assert.deepEqual(copies, [], "a file was copied up only to be removed");
		client.close();
	});

	test(`hard links ${kind}: a removed name made again is another object`, { skip }, async (t) => {
		const made = scratch(t);
		const { layers, names, links } = make(made);
		const server = await serve(made, layers);
		let client = await server.client();
		const root = await client.root();
		const handle = await client.walk(root, names[0] as string);
		const [first, ...others] = names as [string, ...string[]];
		await remove(client, root, first);
		const parent = await client.walk(root, first.split("/").slice(0, -1).join("/"));
		const fresh = await client.createFile(parent, first.split("/").at(-1) as string, "fresh");
		assert.notDeepEqual(fresh, handle);
		await client.writeFile(handle, "ONE");
		await assertOneObject(client, root, others, handle, links - 1, "ONE contents");
		await assertOneObject(client, root, [first], fresh, 1, "fresh");
		client.close();
		await server.restart();
		client = await server.client();
		await assertOneObject(client, root, others, handle, links - 1, "ONE contents");
		await assertOneObject(client, root, [first], fresh, 1, "fresh");
		client.close();
	});
}

test("hard links: the file in the lower and its name outside keep their contents and count", { skip }, async (t) => {
	const made = scratch(t);
	const { layers, names } = oneLower(made);
	const server = await serve(made, layers);
	const client = await server.client();
	const root = await client.root();
	await client.writeFile(await client.walk(root, names[1] as string), "changed");
	for (const name of names) await remove(client, root, name);
	assert.equal(readFileSync(join(made.path, "outside/fourth"), "utf8"), "the contents");
	assert.equal(lstatSync(join(layers.lowers[0] as string, "a/first")).nlink, 4);
	client.close();
});

test("hard links: rename of one name keeps the others, rename over one takes just that one", { skip }, async (t) => {
	const made = scratch(t);
	const { layers, links } = oneLower(made);
	const server = await serve(made, layers);
	let client = await server.client();
	const root = await client.root();
	const [a, b] = [await client.walk(root, "a"), await client.walk(root, "b")];
	const handle = await client.walk(a, "first");
	const other = await client.walk(root, "other");
	await ok(client.rename(a, "first", b, "moved"), "RENAME of one of several names");
	await assertOneObject(client, root, ["a/second", "b/third", "b/moved"], handle, links, "the contents");
	await ok(client.rename(root, "other", b, "third"), "RENAME over one of several names");
	await assertOneObject(client, root, ["a/second", "b/moved"], handle, links - 1, "the contents");
	await assertOneObject(client, root, ["b/third"], other, 1, "other");
	await ok(client.rename(a, "second", b, "moved"), "RENAME of a name over another of the same object does nothing");
	await assertOneObject(client, root, ["a/second", "b/moved"], handle, links - 1, "the contents");
	client.close();
	await server.restart();
	client = await server.client();
	await assertOneObject(client, root, ["a/second", "b/moved"], handle, links - 1, "the contents");
	await assertOneObject(client, root, ["b/third"], other, 1, "other");
	client.close();
});
