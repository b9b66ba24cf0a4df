/** Promise H8: a scan that is interrupted shows every name that was there throughout exactly once. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { type Entry3, type Nfs3Client, Nfs3Status, ok } from "../support/nfs3-client.ts";
import { needs, sampled } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";

const skip = needs("root");

function names(prefix: string, count: number): Record<string, string> {
	return Object.fromEntries(Array.from({ length: count }, (_, index) => [`big/${prefix}${index}`, prefix]));
}

type Page = { entries: readonly Entry3[]; eof: boolean };
type Turn = (client: Nfs3Client, directory: Buffer, page: number) => Promise<void>;

/** Lists by small pages, and lets something happen between any two of them. */
async function scan(
	server: ServerProcess,
	path: string,
	plus: boolean,
	turn: Turn,
	restartAt: number[] = [],
	ending: "SIGTERM" | "SIGKILL" = "SIGTERM",
): Promise<Entry3[]> {
	let client = await server.client();
	const directory = await client.walk(await client.root(), path);
	const all: Entry3[] = [];
	let cookie = 0n;
	let verifier: Buffer = Buffer.alloc(8);
	for (let page = 0; ; page += 1) {
		let got: Page;
		if (plus) {
			const reply = await ok(client.readdirplus(directory, cookie, verifier, 2048, 4096), `READDIRPLUS page ${page}`);
			verifier = reply.verifier;
			got = reply;
		} else {
			const reply = await ok(client.readdir(directory, cookie, verifier, 1024), `READDIR page ${page}`);
			verifier = reply.verifier;
			got = reply;
		}
		all.push(...got.entries);
		cookie = got.entries.at(-1)?.cookie ?? cookie;
		if (got.eof) break;
		assert.ok(got.entries.length > 0);
		await turn(client, directory, page);
		if (restartAt.includes(page)) {
			client.close();
			if (ending === "SIGKILL") await server.kill();
			else await server.terminate();
			await server.start();
			client = await server.client();
		}
	}
	client.close();
	return all;
}

function assertOnceEach(entries: readonly Entry3[], throughout: Iterable<string>, never: Iterable<string>): void {
	const counts = new Map<string, number>();
	for (const { name } of entries) counts.set(name, (counts.get(name) ?? 0) + 1);
	const twice = [...counts].filter(([, count]) => count > 1).map(([name]) => name);
	assert.deepEqual(twice, [], "names that were listed more than once");
	const lost = [...throughout].filter((name) => !counts.has(name));
	assert.deepEqual(lost, [], "names that were lost");
	const risen = [...never].filter((name) => counts.has(name));
	assert.deepEqual(risen, [], "names that were not there at all");
	const cookies = new Set(entries.map(({ cookie }) => cookie));
	assert.equal(cookies.size, entries.length, "two entries with one cookie");
}

for (const plus of [false, true]) {
	for (const [kind, count, ending] of sampled(
		[
			["lower that becomes merged", 1400, "SIGTERM"],
			["merged", 1400, "SIGTERM"],
			["upper", 1400, "SIGTERM"],
			["lower that becomes merged", 5000, "SIGKILL"],
		] as const,
		1,
	)) {
		test(`a ${plus ? "READDIRPLUS" : "READDIR"} scan of a ${kind} folder of ${count} names loses and repeats nothing, over ${ending}`, {
			skip,
		}, async (t) => {
			const made = scratch(t);
			const lowers =
				kind === "upper"
					? [plant(made.folder("lower"), { other: "" })]
					: kind === "merged"
						? [
								plant(made.folder("top"), names("t", count / 2)),
								plant(made.folder("bottom"), { ...names("b", count / 2), "big/t3": "hidden" }),
							]
						: [plant(made.folder("lower"), names("t", count))];
			const server = await startServer(made, {
				lowers,
				upper: made.folder("upper"),
				args: ["--async", "--state-dir", made.folder("state")],
			});
			const setup = await server.client();
			const root = await setup.root();
			if (kind === "upper") {
				const big = await setup.makeDirectory(root, "big");
				for (let index = 0; index < count; index += 20) {
					await Promise.all(Array.from({ length: 20 }, (_, more) => setup.createFile(big, `t${index + more}`)));
				}
			}
			const big = await setup.walk(root, "big");
			const existing = (await setup.list(big, { dots: false })).map(({ name }) => name);
			assert.equal(existing.length, count);
			setup.close();
			const living = new Set(existing);

			const removed = new Set<string>();
			const written = new Set<string>();
			const created = new Set<string>();
			const turn: Turn = async (client, directory, page) => {
				const pick = (salt: number) => existing[(page * 7919 + salt * 104_729) % existing.length] as string;
				for (const salt of [1, 2, 3]) {
					const victim = pick(salt);
					if (removed.has(victim)) continue;
					if (salt === 1) {
						await ok(client.remove(directory, victim), `REMOVE ${victim}`);
						removed.add(victim);
					} else if (salt === 2) {
						const { handle } = await ok(client.lookup(directory, victim));
						await ok(client.write(handle, 0n, Buffer.from("copied up"), 0), `WRITE ${victim}`);
						written.add(victim);
					} else {
						await ok(client.rename(directory, victim, directory, `r-${page}-${victim}`), `RENAME ${victim}`);
						removed.add(victim);
						created.add(`r-${page}-${victim}`);
					}
				}
				await client.createFile(directory, `new${page}`, "n");
				created.add(`new${page}`);
			};
			const entries = await scan(server, "big", plus, turn, ending === "SIGTERM" ? [3, 11] : [3, 11, 60, 150], ending);
			assert.ok(written.size >= 5 && removed.size >= 10, `enough happened: ${written.size} written, ${removed.size} removed`);
			const throughout = [...living].filter((name) => !removed.has(name));
			assertOnceEach(entries, [".", "..", ...throughout], ["gone", "other"]);
			for (const { name } of entries)
				assert.ok(living.has(name) || created.has(name) || name === "." || name === "..", `${name} was never there`);

			const client = await server.client();
			const after = (await client.list(await client.walk(root, "big"), { dots: false })).map(({ name }) => name).sort();
			assert.deepEqual(after, [...throughout, ...created].sort(), "the listing after all of it");
			client.close();
		});
	}
}

test("a cookie means the same place for ever: each resumes where it did before, whatever came and went", { skip }, async (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), names("n", 300));
	const server = await startServer(made, {
		lowers: [lower],
		upper: made.folder("upper"),
		args: ["--async", "--state-dir", made.folder("state")],
	});
	let client = await server.client();
	const root = await client.root();
	const big = await client.walk(root, "big");
	const before = await client.list(big);
	assert.deepEqual(
		before.slice(0, 2).map(({ name, cookie }) => [name, cookie]),
		[
			[".", 1n],
			["..", 2n],
		],
	);
	for (const { cookie } of before) assert.ok(cookie > 0n && cookie < 1n << 63n, `cookie ${cookie}`);
	await client.createFile(big, "zz-new", "");
	await ok(client.remove(big, "n7"));
	client.close();
	await server.restart();
	client = await server.client();
	const kept = before.filter(({ name }) => name !== "n7");
	const now = (await client.list(big)).filter(({ name }) => name !== "zz-new");
	assert.deepEqual(
		now.map(({ name, cookie }) => [name, cookie]),
		kept.map(({ name, cookie }) => [name, cookie]),
		"names and cookies after a create, a remove and a restart",
	);
	for (let at = 0; at < before.length; at += 23) {
		const from = before[at] as Entry3;
		const { entries } = await ok(client.readdir(big, from.cookie, Buffer.alloc(8), 65536));
		const expected = before.slice(at + 1).filter(({ name }) => name !== "n7");
		assert.deepEqual(
			entries.map(({ name }) => name).filter((name) => name !== "zz-new"),
			expected.map(({ name }) => name),
			`after the cookie of ${from.name}`,
		);
	}
	client.close();
});

test("READDIR and READDIRPLUS keep to the sizes that the client asks for", { skip }, async (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { ...names("n", 500), [`big/${"x".repeat(255)}`]: "" });
	const server = await startServer(made, { lowers: [lower], args: ["--state-dir", made.folder("state")] });
	const client = await server.client();
	const big = await client.walk(await client.root(), "big");
	const expected = (await client.list(big)).map(({ name }) => name);
	for (const count of [512, 1024, 4096, 32768]) {
		const reply = await ok(client.readdir(big, 0n, Buffer.alloc(8), count), `READDIR of ${count}`);
		const size = 88 + 8 + reply.entries.reduce((sum, { bytes }) => sum + 4 + 8 + 4 + ((bytes.length + 3) & ~3) + 8, 0) + 8;
		assert.ok(size <= count + 4, `READDIR answered ${size} bytes for a count of ${count}`);
		assert.deepEqual(
			(await client.list(big, { count })).map(({ name }) => name),
			expected,
			`all pages of ${count}`,
		);
	}
	for (const count of [0, 1, 64]) {
		assert.equal((await client.readdir(big, 0n, Buffer.alloc(8), count)).status, Nfs3Status.toosmall, `READDIR of ${count}`);
		assert.equal((await client.readdirplus(big, 0n, Buffer.alloc(8), count, count)).status, Nfs3Status.toosmall, `READDIRPLUS of ${count}`);
	}
	for (const maxcount of [1024, 8192, 1 << 20]) {
		assert.deepEqual(
			(await client.listPlus(big, { maxcount })).map(({ name }) => name),
			expected,
			`READDIRPLUS pages of ${maxcount}`,
		);
	}
	const end = await ok(client.readdir(big, (1n << 63n) - 1n, Buffer.alloc(8), 4096));
	assert.deepEqual([end.entries, end.eof], [[], true], "after the last cookie");
	client.close();
});

test("names that are not UTF-8 are listed, found and kept byte for byte", { skip }, async (t) => {
	const made = scratch(t);
	const server = await startServer(made, {
		lowers: [plant(made.folder("lower"), { f: "" })],
		upper: made.folder("upper"),
		args: ["--async", "--state-dir", made.folder("state")],
	});
	const client = await server.client();
	const root = await client.root();
	const odd = [
		Buffer.from([0xff, 0xfe, 0x80]),
		Buffer.from("a\nb"),
		Buffer.from("ü".repeat(127)),
		Buffer.from([0xc3]),
		Buffer.alloc(255, 0xe9),
	];
	const handles: Buffer[] = [];
	for (const name of odd) handles.push(await client.createFile(root, name, name));
	for (const [index, name] of odd.entries()) {
		const { handle } = await ok(client.lookup(root, name));
		assert.deepEqual(handle, handles[index]);
		assert.deepEqual(await client.readFile(handle), name);
	}
	const listed = (await client.list(root, { dots: false })).map(({ bytes }) => bytes.toString("hex")).sort();
	assert.deepEqual(listed, [...odd, Buffer.from("f")].map((name) => name.toString("hex")).sort());
	client.close();
});
