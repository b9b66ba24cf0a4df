import assert from "node:assert/strict";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Nfs3Client } from "../support/nfs3-client.ts";
import { full, needs, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";

/** Real inodes, each with a handle that is given out: in directories of a thousand, and as many in one. */
const EACH = volume(20_000, 60_000, 500_000);
const MEBIBYTES_MAX = 512;
/** Of the limit below; each layer and each connection takes some. */
const DESCRIPTOR_LIMIT = 4096;

test("walks over very many files by several clients stay within memory and descriptors, and the first handles hold", {
	skip: needs("root") || cannotMount("ext4"),
}, async (t) => {
	const made = scratch(t);
	const base = made.mount("ext4", "layers", full ? 8192 : 1024);
	const lower = join(base, "lower");
	for (let i = 0; i < EACH; i += 1000) fill(join(lower, `d${i / 1000}`), 1000);
	fill(join(lower, "big"), EACH);
	const server = await startServer(made, {
		lowers: [lower],
		upper: join(base, "upper"),
		work: join(base, "work"),
		args: ["--descriptors-max", String(DESCRIPTOR_LIMIT)],
	});
	const peak = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1]) / 1024;
	const resident = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"))?.[1]) / 1024;
	const clients = await Promise.all([1, 2, 3].map(() => Nfs3Client.connect(server.port)));
	const walk = async (client: Nfs3Client, keep: Buffer[]): Promise<number> => {
		let count = 0;
		for (const directory of await client.listPlus(await client.root(), { dots: false })) {
			const entries = await client.listPlus(directory.handle as Buffer, { dots: false });
			count += entries.length;
			if (keep.length < 1000) keep.push(entries[0].handle as Buffer);
		}
		return count;
	};
	const first: Buffer[] = [];
	const curve: string[] = [];
	for (const round of [1, 2, 3]) {
		assert.equal(await walk(clients[0], first), 2 * EACH);
		curve.push(`${Math.round(resident())} MiB after walk ${round}`);
	}
	const once = resident();
	assert.deepEqual(
		await Promise.all(clients.map((client) => walk(client, []))),
		clients.map(() => 2 * EACH),
	);
	t.diagnostic(
		`${2 * EACH} files: ${curve.join(", ")}, ${Math.round(resident())} MiB after three at once; at most ${Math.round(peak())} MiB`,
	);
	assert.ok(peak() < MEBIBYTES_MAX, `${Math.round(peak())} MiB`);
	assert.ok(resident() < once * 1.5 + 32, "memory does not grow with the walks");
	const open = readdirSync(`/proc/${server.pid}/fd`).length;
	assert.ok(open < DESCRIPTOR_LIMIT + 200, `${open} descriptors`);
	for (const handle of first) {
		const answer = await clients[0].getattr(handle);
		assert.equal(answer.status, 0);
	}
	for (const client of clients) client.close();
	await server.terminate();
});

function fill(directory: string, count: number): void {
	mkdirSync(directory, { recursive: true });
	for (let i = 0; i < count; i++) closeSync(openSync(join(directory, `file-${String(i).padStart(7, "0")}`), "w"));
}
