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
	newSecrets,
	type Registry,
	RegistryError,
	readRegistry,
	registryPath,
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
	const changed = { ...registry, lowers: [{ ...registry.lowers[0], adopted: true }], upper: null };
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
	// the last byte is only a line's end
	for (let length = 0; length < whole.length - 1; length++) {
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
	for (const part of ["exportId", "uuid", "cookieSecret", "keys", "signingKey", "homes", "spaces", "lowers"]) {
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
