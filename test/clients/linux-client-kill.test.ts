/**
 * The Linux kernel's NFS client, of version 3 and of 4.1, works in an export whose server is killed by SIGKILL every few seconds: directories of a lower
 * move while programs have their working directory and open files below them, and lower files get hard links. No program may see
 * an error, and what they leave must equal what they leave in a plain folder.
 */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { lstatSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { newRepository } from "../support/git-repository.ts";
import { noise, plant } from "../support/lower-tree.ts";
import { FileType3 } from "../support/nfs3-client.ts";
import { full, needs, repository, seed } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { type ServerProcess, startServer } from "../support/server-process.ts";
import { assertSameTree, snapshotTree } from "../support/tree-snapshot.ts";
import { runVm } from "../support/virtual-machine.ts";

const skip = needs("root", "vm", "git", "rsync", "tar", "perl", "getfattr");
const seconds = Number(process.env.HOLDFAST_TEST_KILL_SECONDS ?? (full ? 120 : 20));
const lanes = full ? 2 : 1;
const rounds = full ? 5 : 2;
const workloads = ["move_directories", "link_trees", "backups", "git_links", "package_tree", "archive"];

/** From one start of the server to its end, the least and the most. */
const [leastMilliseconds, mostMilliseconds] = (process.env.HOLDFAST_TEST_KILL_AFTER_MS ?? "3000-6000").split("-").map(Number) as [
	number,
	number,
];

/** What the workloads of kill-workloads.sh expect to find in the folder of a step. */
function plantRound(top: string, number: number): void {
	const leaves = (prefix: string, count: number, bytes: number) =>
		Object.fromEntries(
			Array.from({ length: count }, (_, index) => [
				`${prefix}/d${index & 1}/f${index >> 1}`,
				`${prefix} ${index}\n`.repeat(1 + ((index * 37) % bytes)),
			]),
		);
	const packages = Object.fromEntries(
		Array.from({ length: 8 }, (_, index) => index).flatMap((index) => {
			const at = `project/node_modules/p${index}`;
			return [
				[`${at}/package.json`, `{ "name": "p${index}" }`],
				[`${at}/index.js`, `module.exports = ${index};\n`],
				...Array.from({ length: 8 }, (_, more) => [`${at}/lib/l${more}.js`, `// p${index} ${more}\n`.repeat(more * 11 + 1)]),
				[`${at}/node_modules/nested/package.json`, `{ "name": "nested of p${index}" }`],
				[`${at}/node_modules/nested/node_modules/deeper/index.js`, "deeper\n"],
			] as [string, string][];
		}),
	);
	plant(top, {
		"app/one/two/three/four/log": "",
		"app/one/two/three/four/data": Array.from({ length: 500 }, (_, index) => `${String(index).padStart(7, "0")}\n`).join(""),
		"app/one/two/three/above": "above\n",
		above: "above\n",
		"app/one/two/beside/file": "beside two",
		"app/one/beside/file": "beside one",
		"app/untouched/deep/er": "untouched",
		"other/here": "other",
		...leaves("tree", 24, 60),
		...leaves("backup.0", 24, 60),
		...leaves("victim", 40, 60),
		"victim/d0/sub/dir/file": noise(40_000, number + 1),
		"victim/a link": { link: "d0/f1" },
		...packages,
		"project/.bin/tool": { link: "../node_modules/p1/index.js" },
	});
	execFileSync("chmod", ["755", join(top, "project/node_modules/p1/index.js")]);
	execFileSync("ln", [join(top, "tree/d0/f0"), join(top, "tree/d1/a name more")]);
	execFileSync("ln", [join(top, "victim/d0/f2"), join(top, "victim/d1/linked")]);
	execFileSync("find", [top, "-exec", "touch", "-h", "-d", "2001-02-03T04:05:06.789", "{}", "+"]);
	execFileSync("cp", ["-a", join(top, "backup.0"), join(top, "source")]);
	const repo = join(top, "repository");
	const git = newRepository(repo, 12);
	for (let index = 0; index < 3; index += 1) {
		writeFileSync(join(repo, "file0.txt"), noise(400, index + 1).toString("hex"));
		git("add", "-A");
		git("commit", "-q", "-m", `commit ${index}`);
	}
	// The hooks of the template are nothing but more files.
	execFileSync("rm", ["-rf", join(repo, ".git/hooks")]);
}

/**
 * Ends the server by SIGKILL again and again and starts it at once. While there is none, connections are taken and held and
 * then dropped, for a client that is refused once would wait three seconds.
 */
class Killer {
	readonly #server: ServerProcess;
	#state: number;
	#stop = false;
	#wake: () => void = () => {};
	#loop: Promise<void> = Promise.resolve();
	kills = 0;
	error: unknown;

	constructor(server: ServerProcess, from: number) {
		this.#server = server;
		this.#state = from >>> 0 || 1;
	}

	begin(): void {
		this.#loop = this.#run();
	}

	end(): Promise<void> {
		this.#stop = true;
		this.#wake();
		return this.#loop;
	}

	/** 0 to 1, reproducible. */
	#random(): number {
		this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
		return this.#state / 2 ** 32;
	}

	async #run(): Promise<void> {
		let startMilliseconds = 0;
		for (;;) {
			await new Promise<void>((resolve) => {
				const life = leastMilliseconds + this.#random() * (mostMilliseconds - leastMilliseconds);
				// on a busy machine it lives longer, else nothing would be done in a life
				const timer = setTimeout(resolve, Math.max(life, 3 * startMilliseconds));
				this.#wake = () => {
					clearTimeout(timer);
					resolve();
				};
			});
			if (this.#stop) return;
			try {
				await this.#server.kill();
				this.kills += 1;
				const dropConnections = await takeConnections(this.#server.port);
				const begun = performance.now();
				await this.#server.start();
				startMilliseconds = performance.now() - begun;
				dropConnections();
			} catch (error) {
				this.error = error;
				return;
			}
		}
	}
}

/** Takes connections to a port for a moment; the function that it resolves to drops them. */
async function takeConnections(port: number): Promise<() => void> {
	const taken: Socket[] = [];
	const listener = createServer((socket) => {
		socket.on("error", () => {});
		socket.resume();
		taken.push(socket);
	});
	await new Promise<void>((resolve, reject) => {
		listener.on("error", reject);
		listener.listen(port, "127.0.0.1", resolve);
	});
	for (let waited = 0; taken.length === 0 && waited < 200; waited += 10) await new Promise((resolve) => setTimeout(resolve, 10));
	listener.close();
	return () => {
		for (const socket of taken) socket.destroy();
	};
}

for (const [version, name, args] of [
	["4.1", "--sync", []],
	["3", "--sync", []],
	["4.1", "--async", ["--async"]],
	["3", "--async", ["--async"]],
] as const) {
	test(`Linux NFS client of version ${version}, server with ${name} killed every few seconds: mv under open files and working directories, hard links, git, packages, tar`, {
		skip,
	}, async (t) => {
		t.diagnostic(`HOLDFAST_TEST_SEED=${seed}`);
		const made = scratch(t);
		const lower = made.folder("lower");
		for (let lane = 0; lane < lanes; lane += 1) {
			for (let round = 0; round < rounds; round += 1) {
				const top = join(lower, String(lane), String(round));
				if (lane === 0 && round === 0) plantRound(top, 0);
				else execFileSync("sh", ["-c", 'mkdir -p "$1" && cp -a "$0/." "$1"', join(lower, "0/0"), top]);
			}
		}
		const lowerBefore = snapshotTree(lower);
		const top = join(made.path, "top");
		execFileSync("cp", ["-a", lower, top]);
		const upper = made.folder("upper");
		const env = {
			TOP: top,
			LANES: String(lanes),
			ROUNDS: String(rounds),
			SECONDS_: String(seconds),
			SEED: String(seed),
			WORKLOADS: workloads.join(" "),
			OPTIONS: "",
			VERSION: version,
			RESULTS: made.folder("results"),
		};

		const server = await startServer(made, { lowers: [lower], upper, args: ["--state-dir", made.folder("state"), ...args] });
		const killer = new Killer(server, seed);
		const steps: string[] = [];
		const times = new Map<string, number[]>();
		const vm = await runVm(made, "kill-workloads.sh", {
			env: { ...env, STEPS: "", PORT: String(server.port) },
			writable: [env.RESULTS],
			onLine: (line) => {
				const words = line.split(" ");
				if (words[0] === "@begin") killer.begin();
				if (words[0] === "@end") void killer.end();
				if (words[0] === "@lane") steps[Number(words[1])] = words[2] as string;
				if (words[0] === "@step") times.set(words[3] as string, [...(times.get(words[3] as string) ?? []), Number(words[5]) / 1000]);
			},
		});
		await killer.end();
		const told = `${vm.output}\n${server.stderr.slice(-3000)}`;
		assert.ifError(killer.error);
		for (const [workload, taken] of times) t.diagnostic(`${workload}: ${taken.map((each) => `${each.toFixed(1)} s`).join(", ")}`);
		t.diagnostic(`${killer.kills} kills; virtual machine: ${vm.seconds.toFixed(1)} s; steps of each lane: ${steps.join(", ")}`);
		assert.deepEqual(
			vm.output.split("\n").filter((line) => line !== "" && !line.startsWith("@")),
			[],
			`programs complained\n${told}`,
		);
		assert.deepEqual(
			vm.output.split("\n").filter((line) => line.startsWith("@step") && line.split(" ")[4] !== "0"),
			[],
			`programs failed\n${told}`,
		);
		assert.equal(vm.status, 0, told);
		assert.match(vm.output, /^@found 0$/m, told);
		assert.equal(steps.length, lanes, told);
		assert.ok(killer.kills > 0, `the server was never killed`);

		const reference = spawnSync("bash", [join(repository, "test/vm/kill-workloads.sh")], {
			env: { PATH: process.env.PATH, ...env, STEPS: steps.join(" "), PORT: "" },
			encoding: "utf8",
		});
		assert.equal(reference.status, 0, `on a plain folder: ${reference.stdout}${reference.stderr}`);
		assert.doesNotMatch(reference.stdout, /^(?!@)./m, "on a plain folder");
		for (const [lane, count] of steps.entries()) assert.match(reference.stdout, new RegExp(`^@lane ${lane} ${count}$`, "m"));

		const compared = Date.now();
		const expected = execFileSync("find", [top, "-printf", "%y %m %U %G %l %P\n"], { encoding: "utf8", maxBuffer: 1 << 28 });
		const found = readFileSync(join(env.RESULTS, "find"), "utf8");
		assert.deepEqual(found.split("\n").sort(), expected.split("\n").sort(), "find in the mount and in the plain folder");
		await assertSameObjects(server, top);
		await server.restart();
		await assertSameObjects(server, top);
		assertSameTree(lowerBefore, snapshotTree(lower), "the lower was changed");
		t.diagnostic(`comparison: ${((Date.now() - compared) / 1000).toFixed(1)} s`);
	});
}

/**
 * Every object is as its twin in the plain folder: type, mode, owner, contents, the group of names that are one file, and the
 * modification time where the program set it. What git keeps of inode numbers and times aside.
 */
async function assertSameObjects(server: ServerProcess, top: string): Promise<void> {
	const client = await server.client();
	const tree = await client.tree(await client.root());
	const expectedGroups = new Map<number, string[]>();
	const foundGroups = new Map<string, string[]>();
	const problems: string[] = [];
	const demand = (path: string, what: string, expected: unknown, found: unknown) => {
		if (expected !== found) problems.push(`${what} of ${path}: expected ${expected}, found ${found}`);
	};
	for (const [path, { handle, attributes, fileidInListing }] of tree) {
		const stat = lstatSync(join(top, path), { bigint: true });
		demand(path, "file id in the listing", attributes.fileid, fileidInListing);
		demand(path, "mode", Number(stat.mode & 0o7777n), attributes.mode);
		demand(path, "owner", `${stat.uid}:${stat.gid}`, `${attributes.uid}:${attributes.gid}`);
		demand(path, "directory", stat.isDirectory(), attributes.type === FileType3.dir);
		// An old time is one that was kept or set: tar -x, rsync -a, cp -a, mv, ln. Others are those of the run.
		const kept = Number(stat.mtimeNs / 1_000_000_000n);
		if (kept < 1_100_000_000)
			demand(path, "modification time", `${stat.mtimeNs}`, `${attributes.mtime.sec}${String(attributes.mtime.nsec).padStart(9, "0")}`);
		if (attributes.type === FileType3.dir) continue;
		demand(path, "link count", Number(stat.nlink), attributes.nlink);
		expectedGroups.set(Number(stat.ino), [...(expectedGroups.get(Number(stat.ino)) ?? []), path]);
		const key = handle.toString("hex");
		foundGroups.set(key, [...(foundGroups.get(key) ?? []), path]);
		if (attributes.type !== FileType3.reg) continue;
		if (/\.git\/index$/.test(path)) continue;
		const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
		demand(path, "size", Number(stat.size), Number(attributes.size));
		demand(path, "contents", digest(readFileSync(join(top, path))), digest(await client.readFile(handle)));
	}
	const named = (groups: Iterable<string[]>) => [...groups].map((names) => names.sort().join(" = ")).sort();
	assert.deepEqual(problems.slice(0, 30), [], `${problems.length} differences from the plain folder`);
	assert.deepEqual(named(foundGroups.values()), named(expectedGroups.values()), "names that are one file");
	client.close();
}
