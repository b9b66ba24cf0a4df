// The registry: read, written, raced for and damaged.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { scratch } from "../../../test/support/scratch.ts";
import {
	createRegistry,
	decodeRegistry,
	newSecrets,
	type Registry,
	RegistryError,
	readRegistry,
	registryPath,
	renewRegistry,
	writeDurably,
	writeRegistry,
} from "./registry.ts";

function sample(): Registry {
	return {
		...newSecrets(),
		homes: [
			{ number: 1, kind: "file system", uuid: "00".repeat(16) },
			{ number: 2, kind: "upper generation", uuid: "0123456789abcdef".repeat(2) },
		],
		spaces: [{ number: 1, home: 1, subvolume: "" }],
		lowers: [{ home: 1, root: "1:0200000000000000" }],
		upper: { home: 2, root: "1:0300000000000000" },
	};
}

test("a registry is read as it was written, and there is none before", (t) => {
	const { path } = scratch(t);
	assert.equal(readRegistry(path), null);
	const registry = sample();
	assert.deepEqual(createRegistry(path, registry), registry);
	assert.deepEqual(readRegistry(path), registry);
	const changed = { ...registry, lowers: [{ ...registry.lowers[0], adopted: true }] };
	writeRegistry(path, changed);
	assert.deepEqual(readRegistry(path), changed);
});

test("the registry holds secrets: its mode is 0600 under any umask, and nothing else is left in its folder", (t) => {
	const { path } = scratch(t);
	for (const mask of [0, 0o022, 0o077]) {
		const former = process.umask(mask);
		createRegistry(path, sample());
		writeRegistry(path, sample());
		process.umask(former);
		assert.equal(statSync(registryPath(path)).mode & 0o7777, 0o600);
		assert.deepEqual(readdirSync(path), ["registry"]);
	}
});

test("secrets are new each time", () => {
	const [one, two] = [newSecrets(), newSecrets()];
	for (const key of ["exportId", "uuid", "cookieSecret"] as const) assert.notEqual(one[key], two[key]);
	assert.notEqual(one.keys[0].secret, two.keys[0].secret);
});

test("the second creator gets the registry of the first, and changes nothing", (t) => {
	const { path } = scratch(t);
	const first = createRegistry(path, sample());
	const before = readFileSync(registryPath(path));
	assert.deepEqual(createRegistry(path, sample()), first);
	assert.deepEqual(readFileSync(registryPath(path)), before);
	assert.deepEqual(readdirSync(path), ["registry"]);
});

test("processes that create at once all get one registry", async (t) => {
	const folder = scratch(t);
	const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
	const module = new URL(`./registry.${extension}`, import.meta.url).href;
	const program = `
		const { createRegistry } = await import(${JSON.stringify(module)});
		const registry = JSON.parse(process.argv[1]);
		process.stdout.write("ready\\n");
		process.stdin.once("data", () => {
			process.stdout.write(createRegistry(${JSON.stringify(folder.path)}, registry).uuid, () => process.exit());
		});`;
	const creators = Array.from({ length: 4 }, () => {
		const child = spawn(process.execPath, ["--input-type=module", "-e", program, JSON.stringify(sample())], {
			stdio: ["pipe", "pipe", "inherit"],
		});
		folder.beforeRemoval(() => child.kill("SIGKILL"));
		let text = "";
		child.stdout.on("data", (data) => {
			text += data;
		});
		return { child, text: () => text };
	});
	await Promise.all(creators.map(({ child }) => once(child.stdout, "data")));
	for (const { child } of creators) child.stdin.write("go\n");
	await Promise.all(creators.map(({ child }) => once(child, "close")));
	const uuid = readRegistry(folder.path)?.uuid;
	assert.ok(uuid !== undefined);
	for (const { text } of creators) assert.equal(text(), `ready\n${uuid}`);
	assert.deepEqual(readdirSync(folder.path), ["registry"]);
});

test("a registry that is cut anywhere is refused, and never replaced by a new one", (t) => {
	const { path } = scratch(t);
	createRegistry(path, sample());
	const whole = readFileSync(registryPath(path));
	for (let length = 0; length < whole.length; length++) {
		writeFileSync(registryPath(path), whole.subarray(0, length));
		assert.throws(() => readRegistry(path), RegistryError);
		if (length % 100 === 0) {
			assert.throws(() => createRegistry(path, sample()), RegistryError);
			assert.equal(statSync(registryPath(path)).size, length);
		}
	}
});

test("a registry that lacks a part, or is of another format, is refused with its path and what to do", (t) => {
	const { path } = scratch(t);
	const registry = sample();
	const refused = (content: unknown, format: unknown = 1) => {
		writeFileSync(registryPath(path), JSON.stringify({ format, registry: content }));
		assert.throws(
			() => readRegistry(path),
			(error) => error instanceof RegistryError && error.message.includes(registryPath(path)) && error.message.includes("backup"),
		);
	};
	for (const part of ["exportId", "uuid", "cookieSecret", "keys", "signingKey", "homes", "spaces", "lowers", "upper"]) {
		refused({ ...registry, [part]: undefined });
	}
	refused({ ...registry, uuid: "00" });
	refused({ ...registry, cookieSecret: "x".repeat(32) });
	refused({ ...registry, signingKey: 2 });
	refused({ ...registry, keys: [] });
	refused({ ...registry, keys: [{ id: 1, secret: "" }] });
	refused({ ...registry, homes: [{ number: 1.5, kind: "file system", uuid: "00".repeat(16) }] });
	refused(null);
	refused([]);
	refused(registry, 2);
	refused(registry, 3);
	refused(registry, "1");
});

test("writeDurably replaces what was there whole, and leaves nothing beside it", (t) => {
	const { path } = scratch(t);
	const file = join(path, "file");
	writeDurably(file, Buffer.alloc(100_000, 1));
	writeDurably(file, Buffer.from("short"));
	assert.equal(readFileSync(file, "utf8"), "short");
	assert.deepEqual(readdirSync(path), ["file"]);
});

const refusedAs = (folder: string, pattern: RegExp) =>
	assert.throws(
		() => readRegistry(folder),
		(error) =>
			error instanceof RegistryError &&
			error.message.startsWith("Cannot ") &&
			pattern.test(error.message) &&
			/Restore it/.test(error.message),
	);

test("each flipped bit, each byte that is missing and each that is there twice is found, and the sentence names the file", (t) => {
	const { path } = scratch(t);
	createRegistry(path, { ...sample(), handlesWhy: "they are the kernel's", dataLowers: [{ home: 0, root: `${"ab".repeat(16)}:1:00` }] });
	const whole = readFileSync(registryPath(path));
	const refused = (bytes: Buffer) =>
		assert.throws(
			() => decodeRegistry(registryPath(path), bytes),
			(error) => error instanceof RegistryError && error.message.includes(registryPath(path)) && error.message.includes("Restore it"),
		);
	for (let at = 0; at < whole.length; at++) {
		for (let bit = 0; bit < 8; bit++) {
			const flipped = Buffer.from(whole);
			flipped[at] ^= 1 << bit;
			refused(flipped);
		}
		refused(Buffer.concat([whole.subarray(0, at), whole.subarray(at + 1)]));
		refused(Buffer.concat([whole.subarray(0, at + 1), whole.subarray(at)]));
	}
	refused(Buffer.concat([whole, Buffer.from("\n")]));
	writeFileSync(registryPath(path), whole);
	assert.ok(readRegistry(path) !== null);
});

test("a registry of the format without a digest is read, and written anew with one", (t) => {
	const { path } = scratch(t);
	const registry = sample();
	writeFileSync(registryPath(path), `${JSON.stringify({ format: 1, registry }, null, "\t")}\n`, { mode: 0o600 });
	assert.deepEqual(readRegistry(path), registry);
	assert.equal(JSON.parse(readFileSync(registryPath(path), "utf8")).format, 1);
	renewRegistry(path);
	assert.deepEqual(readRegistry(path), registry);
	const renewed = readFileSync(registryPath(path));
	assert.equal(JSON.parse(renewed.toString()).format, 2);
	assert.equal(statSync(registryPath(path)).mode & 0o7777, 0o600);
	renewRegistry(path);
	assert.deepEqual(readFileSync(registryPath(path)), renewed);
});

test("unknown, missing, malformed, repeated and contradictory fields are refused in both formats, and named without a secret", (t) => {
	const { path } = scratch(t);
	const good = sample();
	const [home, upperHome] = good.homes;
	const [space] = good.spaces;
	const [lower] = good.lowers;
	const bad: [RegExp, object][] = [
		[/"surprise" is unknown/, { ...good, surprise: 1 }],
		[/"surprise" of a key is unknown/, { ...good, keys: [{ ...good.keys[0], surprise: 1 }] }],
		[/"made" of a key is malformed/, { ...good, keys: [{ ...good.keys[0], made: "yesterday" }] }],
		[/"exportId" is malformed/, { ...good, exportId: 2 ** 32 }],
		[/"upper" is missing/, { ...good, upper: undefined }],
		[/"lowers" is malformed/, { ...good, lowers: [] }],
		[/"handles" is malformed/, { ...good, handles: "kernel" }],
		[/"userXattrs" is malformed/, { ...good, userXattrs: false }],
		[/"rebound" is malformed/, { ...good, rebound: "00" }],
		[/"kind" of a home is malformed/, { ...good, homes: [{ ...home, kind: "house" }, upperHome] }],
		[/two homes have one number/, { ...good, homes: [home, { ...upperHome, number: 1 }] }],
		[/two homes have one uuid/, { ...good, homes: [home, { ...upperHome, uuid: home.uuid }] }],
		[/"subvolume" of an inode space is malformed/, { ...good, spaces: [{ ...space, subvolume: "x" }] }],
		[/two inode spaces have one number/, { ...good, spaces: [space, { ...space, home: 2 }] }],
		[/one inode space has two numbers/, { ...good, spaces: [space, { ...space, number: 2 }] }],
		[/inode space is of a home that there is not/, { ...good, spaces: [{ ...space, home: 3 }] }],
		[/a lower has no home/, { ...good, lowers: [{ ...lower, home: 3 }] }],
		[/a lower has no home/, { ...good, lowers: [{ ...lower, home: 2 }] }],
		[/"root" of a lower is malformed/, { ...good, lowers: [{ ...lower, root: "1:020" }] }],
		[/as in another kind of export/, { ...good, lowers: [{ ...lower, root: `names:${"00".repeat(16)}` }] }],
		[/as in another kind of export/, { ...good, handles: "portable" }],
		[/the upper has no home/, { ...good, upper: { home: 1, root: "1:00" } }],
		[/a home is of no upper/, { ...good, upper: null }],
		[/"home" of an upper is malformed/, { ...good, upper: { home: "2", root: "1:00" } }],
		[/a data layer has no home/, { ...good, dataLowers: [{ home: 9, root: "1:00" }] }],
	];
	for (const [pattern, registry] of bad) {
		for (const isOld of [false, true]) {
			writeRegistry(path, registry as Registry);
			const written = JSON.parse(readFileSync(registryPath(path), "utf8"));
			if (isOld) writeFileSync(registryPath(path), JSON.stringify({ format: 1, registry: written.registry }));
			refusedAs(path, pattern);
			for (const secret of [good.cookieSecret, good.keys[0].secret])
				assert.throws(
					() => readRegistry(path),
					(error) => !(error as Error).message.includes(secret),
				);
		}
	}
	writeFileSync(registryPath(path), JSON.stringify({ format: 1, digest: "", registry: good }));
	refusedAs(path, /"digest" is unknown/);
	const twice = JSON.stringify({ format: 1, registry: good }).replace('"signingKey"', `"uuid":"${"00".repeat(16)}","signingKey"`);
	writeFileSync(registryPath(path), twice);
	refusedAs(path, /"uuid" stands there twice/);
});
