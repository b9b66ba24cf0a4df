/**
 * The Linux kernel's NFS client, of version 3 and of 4.1, works in an export while the server is stopped and started again under it. No program
 * may see an error, and what they leave must equal what they leave in a plain folder.
 */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, lstatSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { newRepository } from "../support/git-repository.ts";
import { noise, plant, plantMany } from "../support/lower-tree.ts";
import { FileType3 } from "../support/nfs3-client.ts";
import { needs, repository, sampled, volume } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";
import { snapshotTree } from "../support/tree-snapshot.ts";
import { runVm } from "../support/virtual-machine.ts";

const skip = needs("root", "vm", "git", "make", "gcc", "sqlite3", "tar", "perl", "getfattr");
const small = Number(process.env.HOLDFAST_TEST_SMALL_FILES ?? volume(300, 4_000, 20_000));
const condemned = volume(400, 3_000, 10_000);
const tarFiles = volume(120, 500, 8_000);
/** From one restart to the next, and from the start of a program to the first; the client waits 3 s when it is refused. */
const firstRestartMilliseconds = 400;
const restartEveryMilliseconds = 12_000;

const SQLITE_EXPECTED = "1600|77906";

function plantLower(top: string): void {
	plant(top, {
		"untouched/deep/er/file": "as it was",
		"untouched/link": { link: "deep/er/file" },
		"project/expected": `${Array.from({ length: 8 }, (_, index) => `part ${index}: ${index * 3 + 1}`).join("\n")}\n`,
		"project/common.h": "#define TIMES 3\n#define PLUS 1\nint part(int number);\n",
		"project/Makefile": [
			"objects := main.o $(patsubst %,part%.o,0 1 2 3 4 5 6 7)",
			"program: $(objects)",
			"\t$(CC) -o $@ $^",
			"%.o: %.c common.h Makefile",
			"\t$(CC) -O1 -c -o $@ $<",
			"",
		].join("\n"),
		"project/main.c": [
			"#include <stdio.h>",
			'#include "common.h"',
			...Array.from({ length: 8 }, (_, index) => `int part${index}(void);`),
			"int main(void) {",
			...Array.from({ length: 8 }, (_, index) => `\tprintf("part ${index}: %d\\n", part${index}());`),
			"\treturn 0;",
			"}",
			"",
		].join("\n"),
	});
	for (let index = 0; index < 8; index += 1) {
		plant(top, { [`project/part${index}.c`]: `#include "common.h"\nint part${index}(void) { return ${index} * TIMES + PLUS; }\n` });
	}
	mkdirSync(join(top, "condemned"));
	plantMany(join(top, "condemned"), condemned);
	execFileSync("sqlite3", [
		join(top, "old.db"),
		"create table t(id integer primary key, word text, n integer); with recursive c(i) as (values(1) union all select i+1 from c where i<2000) insert into t select i, hex(i), i from c;",
	]);
	const repo = join(top, "repository");
	const git = newRepository(repo, 40);
	git("add", "-A");
	git("commit", "-q", "-m", "first");
	for (let index = 0; index < 5; index += 1) {
		writeFileSync(join(repo, `later${index}`), noise(5000, index + 1));
		git("add", "-A");
		git("commit", "-q", "-m", `later ${index}`);
	}
}

function makeTarball(made: Scratch): string {
	const tree = made.folder("for-tar");
	plantMany(tree, tarFiles, (index) => `${index}\n`.repeat((index * 37) % 900));
	plant(tree, { big: noise(3 << 20, 5), "a link": { link: "d0/e0/f1" }, "ü/ö": "names", "empty/": "" });
	chmodSync(join(tree, "big"), 0o711);
	chmodSync(join(tree, "empty"), 0o1777);
	execFileSync("ln", [join(tree, "d0/e0/f2"), join(tree, "hard link")]);
	execFileSync("find", [tree, "-exec", "touch", "-h", "-d", "2001-02-03T04:05:06.789", "{}", "+"]);
	const tarball = join(made.path, "tree.tar");
	execFileSync("tar", ["-c", "--format=posix", "-f", tarball, "-C", tree, "."]);
	return tarball;
}

/** Stops and starts the server while a program runs: soon after its start, and again every few seconds. */
class Restarts {
	readonly #server: ServerProcess;
	readonly counts = new Map<string, number>();
	#running: string | undefined;
	#loop: Promise<void> = Promise.resolve();
	#wake: () => void = () => {};
	error: unknown;

	constructor(server: ServerProcess) {
		this.#server = server;
	}

	begin(name: string): void {
		this.#running = name;
		this.counts.set(name, 0);
		this.#loop = this.#loop.then(() => this.#run(name));
	}

	end(): Promise<void> {
		this.#running = undefined;
		this.#wake();
		return this.#loop;
	}

	async #run(name: string): Promise<void> {
		let wait = firstRestartMilliseconds;
		// it may have ended while the server was away
		while (this.#running === name) {
			await new Promise<void>((resolve) => {
				const timer = setTimeout(resolve, wait);
				this.#wake = () => {
					clearTimeout(timer);
					resolve();
				};
			});
			if (this.#running !== name || this.error) return;
			try {
				await this.#server.restart();
			} catch (error) {
				this.error = error;
				return;
			}
			this.counts.set(name, (this.counts.get(name) as number) + 1);
			wait = restartEveryMilliseconds;
		}
	}
}

const groups: [version: string, name: string, workloads: string[], args: string[]][] = [
	["4.1", "tar, git and sqlite", ["tarball", "git_work", "sqlite"], []],
	["3", "make, rm -rf and many small files", ["make_project", "remove_tree", "small_files"], ["--async"]],
	["4.1", "make, rm -rf and many small files", ["make_project", "remove_tree", "small_files"], ["--async"]],
	["3", "tar, git and sqlite", ["tarball", "git_work", "sqlite"], []],
];

for (const [version, name, workloads, args] of sampled(groups, 1)) {
	test(`Linux NFS client of version ${version}: ${name}, over restarts of the server`, { skip }, async (t) => {
		const made = scratch(t);
		const lower = made.folder("lower");
		plantLower(lower);
		const lowerBefore = snapshotTree(lower);
		const top = join(made.path, "top");
		execFileSync("cp", ["-a", lower, top]);
		const env = {
			TOP: top,
			TARBALL: makeTarball(made),
			SMALL: String(small),
			WORKLOADS: workloads.join(" "),
			SQLITE_EXPECTED,
			OPTIONS: "",
			VERSION: version,
			RESULTS: made.folder("results"),
		};

		const reference = spawnSync("bash", [join(repository, "test/vm/workloads.sh")], {
			env: { PATH: process.env.PATH, ...env, PORT: "" },
			encoding: "utf8",
		});
		for (const workload of workloads)
			assert.match(reference.stdout, new RegExp(`^@end ${workload} 0 `, "m"), `on a plain folder: ${reference.stdout}${reference.stderr}`);

		const server = await startServer(made, {
			lowers: [lower],
			upper: made.folder("upper"),
			args: ["--state-dir", made.folder("state"), ...args],
		});
		const restarts = new Restarts(server);
		const vm = await runVm(made, "workloads.sh", {
			env: { ...env, PORT: String(server.port) },
			writable: [env.RESULTS],
			onLine: (line) => {
				const [mark, workload] = line.split(" ");
				if (mark === "@begin") restarts.begin(workload as string);
				if (mark === "@end") void restarts.end();
			},
		});
		await restarts.end();
		assert.ifError(restarts.error);
		for (const workload of [...workloads, "find"]) {
			const [, status, milliseconds] = new RegExp(`^@end ${workload} (\\d+) (\\d+)`, "m").exec(vm.output) ?? [];
			const count = restarts.counts.get(workload) ?? 0;
			t.diagnostic(`${workload}: ${(Number(milliseconds) / 1000).toFixed(1)} s, ${count} restarts`);
			assert.equal(status, "0", `${workload} failed:\n${vm.output}\n${server.stderr.slice(-2000)}`);
			if (workload !== "find") assert.ok(count >= 1, `${workload} ended before the server was restarted`);
		}
		const noisy = vm.output.split("\n").filter((line) => line !== "" && !line.startsWith("@"));
		assert.deepEqual(noisy, [], "programs complained");
		assert.equal(vm.status, 0);
		t.diagnostic(`virtual machine: ${vm.seconds.toFixed(1)} s`);

		const expected = execFileSync("find", [top, "-printf", "%y %m %U %G %l %P\n"], { encoding: "utf8", maxBuffer: 1 << 28 });
		const found = readFileSync(join(env.RESULTS, "find"), "utf8");
		assert.deepEqual(found.split("\n").sort(), expected.split("\n").sort(), "find in the mount and in the plain folder");
		await assertContents(server, top);
		for (const [path, line] of snapshotTree(lower)) assert.equal(line, lowerBefore.get(path), `${path} of the lower was changed`);
	});
}

/** Every file reads as its twin in the plain folder; what git keeps of inode numbers and times aside. */
async function assertContents(server: ServerProcess, top: string): Promise<void> {
	const client = await server.client();
	const tree = await client.tree(await client.root());
	for (const [path, { handle, attributes }] of tree) {
		const stat = lstatSync(join(top, path));
		if (attributes.type === FileType3.reg) {
			assert.equal(Number(attributes.size), stat.size, `size of ${path}`);
			assert.equal(attributes.nlink, stat.nlink, `nlink of ${path}`);
			if (/\.git\/index$/.test(path)) continue;
			const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
			assert.equal(digest(await client.readFile(handle)), digest(readFileSync(join(top, path))), `contents of ${path}`);
		}
		assert.equal(attributes.mode, stat.mode & 0o7777, `mode of ${path}`);
	}
	client.close();
}
