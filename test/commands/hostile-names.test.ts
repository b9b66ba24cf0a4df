/** Names that somebody else chose never reach a terminal raw: every command, with hostile names of layers, files, exports and clients. */

import assert from "node:assert/strict";
import { chmodSync, cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { runHoldfast, startServer } from "../support/server-process.ts";
import { raw } from "../support/tar-archive.ts";

/** What a path given on a command line may have: Node.js takes UTF-8 only. */
const EVIL = "\x1b]0;title\x07\x1b[31m\r\nholdfast: all is well\u202e\u009b2J\x7f";
const NAMES = ["\x1b[2J", "new\nline", "\u009b31m", "gpj\u202etxt", "\x7f\b\b", "\u2028", "back\\slash"].map((name) => Buffer.from(name));
const BYTES = [Buffer.from([0x61, 0xff, 0x1b, 0x9b]), Buffer.from([0xc3]), Buffer.from([0xed, 0xa0, 0x80])];

/** Everything that was printed, by command: for people in lines, and as JSON. */
const printed: [what: string, text: string][] = [];

function run(...args: string[]): { code: number | null; stdout: string; stderr: string } {
	const result = runHoldfast(args);
	for (const text of [result.stdout, result.stderr]) printed.push([JSON.stringify(args), text]);
	// no line of its own, whatever name says so
	for (const line of result.stderr.trimEnd().split("\n"))
		assert.ok(line === "" || line.startsWith("holdfast: "), `${args[0]}: ${JSON.stringify(line)}`);
	return result;
}

function json(...args: string[]): unknown {
	const { stdout, stderr } = run(...args, "--json");
	assert.match(stdout, /^[^\n]+\n$/, `${args}: ${stderr}`);
	return JSON.parse(stdout);
}

function pathBytes(path: string | { base64: string }): Buffer {
	return typeof path === "string" ? Buffer.from(path) : Buffer.from(path.base64, "base64");
}

function assertHarmless(): void {
	assert.ok(printed.length > 40, "too little was printed");
	for (const [what, text] of printed.splice(0)) {
		const odd = /[^\n\t\P{C}]|[\u2028\u2029\ufffd]/u.exec(text);
		assert.equal(odd, null, `${what}: U+${odd?.[0].codePointAt(0)?.toString(16)} at ${odd?.index}: ${JSON.stringify(text)}`);
	}
}

function plantHostile(folder: string): void {
	mkdirSync(folder, { recursive: true });
	const at = (...parts: (Buffer | string)[]) =>
		Buffer.concat(parts.flatMap((part) => [Buffer.from("/"), Buffer.from(part as string)]).slice(1));
	for (const name of [...NAMES, ...BYTES]) {
		mkdirSync(at(folder, Buffer.concat([Buffer.from("d"), name])));
		writeFileSync(at(folder, Buffer.concat([Buffer.from("d"), name]), name), "file");
		writeFileSync(at(folder, name), "file");
		symlinkSync(name, at(folder, Buffer.concat([Buffer.from("l"), name])));
	}
}

for (const kind of ["kernel", "portable"] as const) {
	test(`with ${kind} handles no command prints a raw name, and JSON has its bytes`, {
		skip: needs("root") || cannotMount("ext4"),
	}, async (t) => {
		const made = scratch(t);
		const base = made.mount("ext4");
		const lower = join(base, `lower ${EVIL}`);
		plantHostile(lower);
		const [upper, work, state] = ["upper", "work", "state"].map((name) => join(base, `${name} ${EVIL}`)) as [string, string, string];
		const layers = ["--lower", lower, "--upper", upper, "--work", work];
		const named = [...layers, "--state-dir", state];
		const serve = ["--state-dir", state, "--handles", kind, "--mount-path", `/export ${EVIL}`];
		const server = await startServer(made, { lowers: [lower], upper, work, args: serve });
		const client = await server.client({ uid: 0, gid: 0, machine: EVIL.slice(0, 60) });
		const root = await client.root(`/export ${EVIL}`);
		for (const name of [...NAMES, ...BYTES].flatMap((one) => [
			one,
			Buffer.concat([Buffer.from("d"), one]),
			Buffer.concat([Buffer.from("l"), one]),
		])) {
			const found = await client.lookup(root, name);
			assert.equal(found.status, 0);
			const handle = found.handle.toString("hex");
			const explained = json("handle", handle, ...named) as { object: { paths: (string | { base64: string })[] } };
			assert.deepEqual(explained.object.paths.map(pathBytes), [Buffer.concat([Buffer.from("/"), name])]);
			run("handle", handle, ...named);
		}
		for (const name of [...NAMES, ...BYTES]) {
			await client.remove(root, name);
			await client.createFile(root, Buffer.concat([Buffer.from("new"), name]), "new");
		}
		run("serve", ...named, "--listen", "127.0.0.1:0");
		run("key", "rotate", ...named);
		run("check", ...layers);
		await server.terminate();
		printed.push(["serve", server.stdout], ["serve", server.stderr]);
		for (const name of [...NAMES, ...BYTES])
			writeFileSync(Buffer.concat([Buffer.from(`${work}/${kind === "kernel" ? "" : "holdfast/"}index/`), name]), "");
		for (const name of readdirSync(work)) assert.ok(["holdfast", "index", "work"].includes(name));
		run("check", ...layers);
		json("check", ...layers);
		run("check", "--repair", ...layers);
		for (const command of [["key", "list"], ["key", "rotate"], ["settle"], ["adopt"], ["release", "--dry-run"]]) {
			run(...command, ...named);
			run(...command, ...named, "--json");
		}
		run("key", "drop", "9", ...named);
		if (kind === "kernel") {
			run("rebind", ...named);
			assert.equal(run("key", "list", ...named).code, 0);
		}
		const other = join(base, `other ${EVIL}`);
		cpSync(lower, other, { recursive: true, filter: (path) => !path.includes("\ufffd") });
		writeFileSync(Buffer.concat([Buffer.from(`${other}/`), NAMES[0] as Buffer]), "changed in it");
		run("rebase", "--lower", other, "--was", lower, "--upper", upper, "--work", work, "--json");
		run("rebase", "--lower", other, "--was", lower, "--upper", upper, "--work", work);
		run("fork", "--upper", upper, "--work", work);
		for (const command of ["serve", "handle", "release", "settle", "adopt", "check"]) {
			run(command, ...(command === "handle" ? ["00"] : []), "--lower", `/nothing ${EVIL}`, "--upper", upper, "--state-dir", state);
			run(command, `--${EVIL}`);
		}
		for (const args of [
			[EVIL],
			["--help"],
			["serve", "--help"],
			["serve", "--listen", EVIL],
			["serve", "--handles", EVIL, lower],
			["key", EVIL],
		]) {
			const { stdout, stderr } = runHoldfast(args);
			printed.push([JSON.stringify(args), stdout], [JSON.stringify(args), stderr]);
		}
		chmodSync(`${work}/holdfast/registry`, 0o600);
		writeFileSync(`${work}/holdfast/registry`, JSON.stringify({ format: 1, registry: { [EVIL]: 1 } }));
		run("serve", ...named, "--listen", "127.0.0.1:0");
		assertHarmless();
	});
}

test("unpack prints no raw name of an archive or entry", { skip: needs("root") }, (t) => {
	const made = scratch(t);
	const archive = join(made.path, `layer ${EVIL}.tar`);
	const target = (n: number) => join(made.path, `out ${n} ${EVIL}`);
	const end = Buffer.alloc(1024);
	for (const [n, name] of [...NAMES, ...BYTES].entries()) {
		writeFileSync(
			archive,
			Buffer.concat([
				raw({ name, data: "x" }),
				raw({ name: Buffer.concat([name, Buffer.from("l")]), type: "2", link: name, pax: { "SCHILY.xattr.user.\x1b": "x" } }),
				end,
			]),
		);
		run("unpack", archive, target(n));
		run("unpack", archive, target(n));
		writeFileSync(archive, Buffer.concat([raw({ name: Buffer.concat([Buffer.from("../"), name]), data: "x" }), end]));
		run("unpack", archive, target(100 + n));
		writeFileSync(archive, Buffer.concat([raw({ name: Buffer.concat([name, Buffer.from("/x")]), type: "1", link: name }), end]));
		run("unpack", archive, target(200 + n), "--json");
	}
	run("unpack", `${archive} missing`, target(1));
	assertHarmless();
});
