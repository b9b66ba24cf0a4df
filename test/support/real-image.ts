import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { type BigIntStats, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { noise, plant } from "./lower-tree.ts";
import { readXattrs } from "./tree-snapshot.ts";

/** Files that are larger are left out. */
const fileBytesMax = 64 * 1024;

/** The first real files of this machine in the order of their names, with the symlinks between them, and all setuid programs. */
export function plantRealFiles(top: string, files: number): number {
	const find = (...args: string[]) =>
		execFileSync("find", args, { encoding: "latin1", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "ignore"] })
			.split("\0")
			.slice(0, -1);
	const folders = ["/etc", "/usr"];
	const found = find(
		...folders,
		"-xdev",
		"(",
		"-type",
		"l",
		"-o",
		"-type",
		"f",
		"-size",
		`-${fileBytesMax / 1024}k`,
		")",
		"-printf",
		"%y%p\\0",
	);
	const chosen: string[] = [];
	let count = 0;
	for (const line of found.sort((a, b) => (a.slice(1) < b.slice(1) ? -1 : 1))) {
		if (count === files) break;
		if (line[0] === "f") count += 1;
		chosen.push(line.slice(1));
	}
	chosen.push(...find(...folders, "-xdev", "-type", "f", "-perm", "/6000", "-print0"));
	const list = join(top, "..", "list");
	writeFileSync(list, chosen.map((path) => `.${path}\0`).join(""), "latin1");
	mkdirSync(top, { recursive: true });
	const tar = `tar -c --xattrs --xattrs-include='*' --no-recursion --null -C / -T "$1" | tar -xp --xattrs --xattrs-include='*' -C "$2"`;
	execFileSync("bash", ["-o", "pipefail", "-c", tar, "-", list, top], { stdio: ["ignore", "ignore", "pipe"] });
	return count;
}

/** One of each that a tree may hold. */
export function plantOddities(top: string): void {
	const run = (command: string, ...args: string[]) => execFileSync(command, args, { cwd: top, stdio: "pipe" });
	const bash = (script: string) => execFileSync("bash", ["-e", "-c", script], { cwd: top, stdio: "pipe" });
	plant(top, {
		"a/one": "one of three names",
		"b/c/": "",
		secret: "nobody reads this",
		"acl/file": "with an ACL",
		"acl/inherited/": "",
		caps: "with a capability",
		large: noise(5_000_000, 3),
		"read-only/file": "read me",
		"dev/null": { node: ["c", "1", "3"] },
		"dev/disk": { node: ["b", "8", "1"] },
		"dev/large": { node: ["c", "259", "70000"] },
		"dev/fifo": { node: ["p"] },
		"links/relative": { link: "../a/one" },
		"links/absolute": { link: "/etc/passwd" },
		"links/dangling": { link: "no/such" },
		"links/long": { link: "x".repeat(1000) },
		"modes/suid": "suid",
		"modes/sgid": "sgid",
		"modes/mandatory": "sgid without x",
		"modes/sticky": "sticky",
		"modes/shared/": "",
		"modes/tmp/": "",
		"times/before-1970": "old",
		"times/nanoseconds": "x",
		"times/after-2038": "late",
		"empty/": "",
		"empty-file": "",
		"owned/by/another": "x",
		"owned/suid": "x",
	});
	bash("ln a/one b/two; ln a/one b/c/three; ln dev/fifo dev/fifo2; ln links/relative links/relative2; ln dev/null a/null; ln caps b/caps");
	bash(
		"printf 'odd' >$'\\xff\\xfe\\x80'; mkdir $'d\\xc3\\x28'; printf 'in' >$'d\\xc3\\x28/\\x01\\n'; ln -s $'\\xfd' $'l\\xfd'; touch -- 'a b' '*' '-rf' $'tab\\t' \\\\; mkdir -p \"$(printf 'n%.0s' {1..255})\"",
	);
	// holes at the beginning, in the middle and at the end
	bash(
		"truncate -s 50M sparse; for at in 3 77 4000; do printf 'data' | dd of=sparse bs=4096 seek=$at conv=notrunc status=none; done; truncate -s 1G hole",
	);
	run("chmod", "0", "secret");
	run("chmod", "0555", "read-only");
	run("chmod", "0444", "read-only/file");
	run("setfacl", "-m", "u:1234:rwx,g:99:r--,m::r-x", "acl/file");
	run("setfacl", "-m", "u:77:r-x,d:u:77:rwx,d:g:5:r--", "acl");
	run("setfattr", "-n", "security.capability", "-v", "0x0100000200200000000000000000000000000000", "caps");
	run("setfattr", "-n", "user.text", "-v", "hello", "a/one");
	run("setfattr", "-n", "user.binary", "-v", "0x00ff8000", "a");
	run("setfattr", "-n", "user.empty", "empty");
	run("setfattr", "-n", "user.large", "-v", `0x${noise(2000, 9).toString("hex")}`, "owned/suid");
	run("setfattr", "-h", "-n", "trusted.on-a-link", "-v", "x", "links/dangling");
	run("setfattr", "-n", "trusted.on-a-device", "-v", "x", "dev/null");
	run("chmod", "4755", "modes/suid", "owned/suid");
	run("chmod", "2755", "modes/sgid");
	run("chmod", "2745", "modes/mandatory");
	run("chmod", "1755", "modes/sticky");
	run("chmod", "2775", "modes/shared");
	run("chmod", "1777", "modes/tmp");
	run("chown", "-hR", "1001:1002", "a", "links", "owned", "dev");
	run("chmod", "4755", "owned/suid");
	run("touch", "-hd", "1961-02-03T04:05:06.7", "times/before-1970");
	run("touch", "-hd", "2001-02-03T04:05:06.123456789", "times/nanoseconds", "links/relative", "dev/null", "dev/fifo", "empty", "b");
	run("touch", "-hd", "2100-02-03T04:05:06", "times/after-2038");
}

export type Tree = ReadonlyMap<string, string>;

/** All that a path shows, by its bytes as Latin-1; the overlay's own xattrs aside. */
export function describe(top: string): Tree {
	const tree = new Map<string, string>();
	const firstName = new Map<bigint, string>();
	const xattrs = readXattrs(top, "trusted.overlay.");
	const visit = (path: Buffer, key: string) => {
		const stat = lstatSync(path, { bigint: true });
		let line = `${fields(path, stat)}${xattrs.get(key) ?? ""}`;
		if (!stat.isDirectory()) {
			if (!firstName.has(stat.ino)) firstName.set(stat.ino, key);
			line += ` same-file-as=${JSON.stringify(firstName.get(stat.ino))}`;
		}
		tree.set(key, line);
		if (!stat.isDirectory()) return;
		const names = readdirSync(path, { encoding: "buffer" }).map((name) => name.toString("latin1"));
		for (const name of names.sort()) visit(Buffer.concat([path, Buffer.from(`/${name}`, "latin1")]), key === "." ? name : `${key}/${name}`);
	};
	visit(Buffer.from(top), ".");
	return tree;
}

function fields(path: Buffer, stat: BigIntStats): string {
	const common = `${(stat.mode & 0o170000n).toString(8)} mode=${(stat.mode & 0o7777n).toString(8)} owner=${stat.uid}:${stat.gid} mtime=${stat.mtimeNs}`;
	if (stat.isFile()) {
		// a file of holes is not read; its blocks and its first data say enough
		const content = stat.size > 1n << 29n ? "holes" : createHash("sha256").update(readFileSync(path)).digest("hex");
		return `${common} size=${stat.size} sha256=${content} sparse=${stat.blocks * 512n < stat.size / 2n}`;
	}
	if (stat.isSymbolicLink()) return `${common} target=${JSON.stringify(readlinkSync(path, { encoding: "buffer" }).toString("latin1"))}`;
	return stat.isDirectory() ? common : `${common} rdev=${stat.rdev}`;
}

export function assertSame(expected: Tree, actual: Tree, what: string): void {
	const lines: string[] = [];
	for (const [path, line] of expected) {
		const is = actual.get(path);
		if (is !== line) lines.push(`${JSON.stringify(path)}\n    expected ${line}\n    actual   ${is ?? "nothing"}`);
	}
	for (const [path, line] of actual) if (!expected.has(path)) lines.push(`${JSON.stringify(path)}\n    unexpected: ${line}`);
	assert.equal(lines.length, 0, `${what}: ${lines.length} differences\n${lines.slice(0, 20).join("\n")}`);
}

/**
 * Compares what find(1) printed on a client, each object ended by a NUL, with what it prints of a folder
 * here. `format` begins with type, mode, owner, group, link count and size; the last two are a directory's own affair.
 */
export function assertSameFind(found: string, top: string, format: string, what: string): void {
	const list = (text: string) =>
		text
			.split("\0")
			.map((line) => line.replace(/^(d \S+ \d+ \d+) \d+ \d+/, "$1"))
			.sort();
	const local = execFileSync("find", [".", "-printf", format], { cwd: top, encoding: "latin1", maxBuffer: 1 << 28 });
	assert.deepEqual(list(readFileSync(found, "latin1")), list(local), what);
}
