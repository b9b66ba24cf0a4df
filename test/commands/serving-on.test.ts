/** What happens around a server does not end it: signals, streams that nobody reads, folders that go, missing descriptors, full devices. */

import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, readlinkSync, readSync, rmdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { plant } from "../support/lower-tree.ts";
import { Nfs3Client, ok } from "../support/nfs3-client.ts";
import { HANG_MILLISECONDS, needs, repository } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { diesWithParent, runHoldfast } from "../support/server-process.ts";

const skip = needs("root", "mkfifo");
const MODULES = join(repository, "dist/src/cli/main.js");
const BUNDLE = join(repository, "dist/holdfast.js");

interface Place {
	readonly made: Scratch;
	readonly socket: string;
	readonly args: readonly string[];
}

function place(t: TestContext): Place {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { "dir/file": "contents" });
	const socket = join(made.path, "socket");
	const layers = ["--lower", lower, "--upper", made.folder("upper"), "--state-dir", made.folder("state")];
	return { made, socket, args: ["serve", "--no-warm-up", ...layers, "--listen", `unix:${socket}`] };
}

type Stdio = "ignore" | "pipe" | number;

/** A server whose end is awaited before its folders go. */
function start({ made, args }: Place, program = MODULES, stdio: [Stdio, Stdio, Stdio] = ["ignore", "pipe", "pipe"], cwd = made.path) {
	const child = spawn(...diesWithParent([process.execPath, program, ...args]), { stdio, cwd });
	const ended = once(child, "close");
	made.beforeRemoval(async () => {
		child.kill("SIGKILL");
		await ended;
	});
	const said = { stdout: "", stderr: "" };
	for (const name of ["stdout", "stderr"] as const) child[name]?.setEncoding("utf8").on("data", (text) => (said[name] += text));
	return { child, said, ended };
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
	for (const from = Date.now(); !(await holds()); await sleep(5)) assert.ok(Date.now() < from + HANG_MILLISECONDS, what);
}

/** It can be connected to, and answers a change that copies a file up in a thread. */
async function assertServes({ socket }: Place, name: string, child?: ChildProcess): Promise<void> {
	let connected: Nfs3Client | null = null;
	await until("a socket that is listened at", async () => {
		assert.ok(child === undefined || child.exitCode === null, "it has ended");
		connected = await Nfs3Client.connect(socket).catch((error: NodeJS.ErrnoException) => {
			if (error.code === "ENOENT" || error.code === "ECONNREFUSED") return null;
			throw error;
		});
		return connected !== null;
	});
	const client = connected as unknown as Nfs3Client;
	try {
		const root = await client.root();
		const file = await client.walk(root, "dir/file");
		await ok(client.write(file, 0n, Buffer.from(name)), name);
		await ok(client.mkdir(root, name), name);
	} finally {
		client.close();
	}
}

async function assertEndsWell(child: ChildProcess, ended: Promise<unknown>): Promise<void> {
	child.kill("SIGTERM");
	assert.deepEqual(await ended, [0, null]);
}

/** Whether a process listens to a signal, by the mask of those that it has a handler for. */
function listensTo(pid: number, signal: number): boolean {
	const mask = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? "0";
	return ((BigInt(`0x${mask}`) >> BigInt(signal - 1)) & 1n) === 1n;
}

const SIGNALS = ["SIGUSR1", "SIGUSR2", "SIGHUP", "SIGPIPE"] as const;
const SIGUSR2 = 12;

for (const [what, program] of [
	["the modules", MODULES],
	["the bundle", BUNDLE],
] as const) {
	test(`SIGHUP, SIGPIPE, SIGUSR1 and SIGUSR2 neither end a server nor open an inspector, from ${what}, before it is ready and later`, {
		skip: skip || (!existsSync(program) && `${program} is not built`),
	}, async (t) => {
		const at = place(t);
		const { child, said, ended } = start(at, program);
		await until("the first module runs", () => listensTo(child.pid as number, SIGUSR2));
		assert.ok(!said.stdout.includes("ready"), "it is too late to be early");
		for (const signal of SIGNALS) child.kill(signal);
		await until("ready", () => said.stdout.includes("\n"));
		for (const signal of SIGNALS) for (let i = 0; i < 3; i++) child.kill(signal);
		await assertServes(at, "made");
		assert.equal(said.stderr, "");
		await assertEndsWell(child, ended);
	});
}

test("a second signal to end waits for no client, and still ends in order", { skip }, async (t) => {
	const at = place(t);
	const { child, said, ended } = start(at);
	await until("ready", () => said.stdout.includes("\n"));
	// a client that never closes would be waited for
	const client = await Nfs3Client.connect(at.socket);
	await client.root();
	client.rpc.socket?.pause?.();
	child.kill("SIGTERM");
	child.kill("SIGINT");
	assert.deepEqual(await ended, [0, null]);
	assert.equal(said.stderr, "");
	client.close();
});

test("a server goes on when nobody reads what it prints, or can, and what was held back comes when it is read", { skip }, async (t) => {
	const at = place(t);
	const path = join(at.made.path, "fifo");
	execFileSync("mkfifo", [path]);
	const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
	const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
	for (let isFull = false; !isFull; ) {
		try {
			writeSync(writer, Buffer.alloc(4096, "x"));
		} catch {
			isFull = true;
		}
	}
	// nobody is asked at the port of rpcbind here, so there is something to say
	const { child, ended } = start({ ...at, args: [...at.args, "--rpcbind", "--listen", "127.0.0.1:0"] }, MODULES, [
		"ignore",
		writer,
		writer,
	]);
	await assertServes(at, "stalled", child);
	const buffer = Buffer.alloc(1 << 20);
	let text = "";
	await until("the lines", () => {
		try {
			text += buffer.toString("latin1", 0, readSync(reader, buffer));
		} catch {
			// empty at the moment
		}
		// two streams: neither waits for the other
		return text.includes("Changes:") && /^ready .*\n/m.test(text);
	});
	for (const fd of [reader, writer]) closeSync(fd);
	await assertServes(at, "closed");
	await assertEndsWell(child, ended);
});

test("a server without standard streams serves, and nothing of a layer is opened in their place", { skip }, async (t) => {
	const at = place(t);
	const { made, args } = at;
	const shell = spawn(...diesWithParent(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", process.execPath, MODULES, ...args]), {
		stdio: "ignore",
	});
	const ended = once(shell, "close");
	made.beforeRemoval(async () => {
		shell.kill("SIGKILL");
		await ended;
	});
	await assertServes(at, "without", shell);
	for (const fd of [0, 1, 2]) assert.equal(readlinkSync(`/proc/${shell.pid}/fd/${fd}`), "/dev/null", `descriptor ${fd}`);
	await assertEndsWell(shell, ended);
});

test("the folder that a server was started in may go, with relative names of layers and of a socket", { skip }, async (t) => {
	const at = place(t);
	const cwd = at.made.folder("below");
	const relative = at.args.map((word) => word.replace(at.made.path, ".."));
	const { child, said, ended } = start({ ...at, args: relative }, MODULES, ["ignore", "pipe", "pipe"], cwd);
	await until("ready", () => said.stdout.includes("\n"));
	rmdirSync(cwd);
	await assertServes(at, "alone");
	await assertEndsWell(child, ended);
	assert.equal(said.stderr, "");
	assert.ok(!existsSync(at.socket), "it removes its socket");
});

test("started in a folder that is gone, it takes full names, and refuses others with a sentence", { skip }, async (t) => {
	const at = place(t);
	const within = (script: string) => {
		const cwd = at.made.folder("gone");
		const run = spawnSync("sh", ["-c", `rmdir "$PWD"; ${script}`, "sh", process.execPath, MODULES], { cwd, encoding: "utf8" });
		return { code: run.status, said: run.stdout + run.stderr.replace(/^sh: .*\n/gm, "") };
	};
	assert.match(within('exec "$@" --version').said, /^\d/);
	const refused = within('exec "$@" serve --lower lower');
	assert.equal(refused.code, 1);
	assert.match(refused.said, /^holdfast: Cannot find the folder that this was started in: it is gone \(ENOENT\)\.\n$/);
});

test("a server that may have few descriptors is refused with a sentence, or serves whoever comes", {
	skip: skip || needs("prlimit") || (!existsSync(BUNDLE) && `${BUNDLE} is not built`),
}, async (t) => {
	const at = place(t);
	// two hundred modules are loaded at once, and their bundle is one file
	const command = (limit: number) => ["prlimit", `--nofile=${limit}:${limit}`, process.execPath, BUNDLE, ...at.args];
	const refused = spawnSync("prlimit", command(100).slice(1), { encoding: "utf8" });
	assert.equal(refused.status, 1);
	const needed = Number(/needs at least (\d+)\. Raise the hard limit \(ulimit -Hn \1\)/.exec(refused.stderr)?.[1]);
	assert.ok(needed > 100 && refused.stderr.split("\n").length === 2, refused.stderr);
	const child = spawn(...diesWithParent(command(needed)), { stdio: ["ignore", "ignore", "pipe"] });
	const ended = once(child, "close");
	at.made.beforeRemoval(async () => {
		child.kill("SIGKILL");
		await ended;
	});
	let stderr = "";
	child.stderr?.on("data", (text) => (stderr += text));
	await assertServes(at, "few", child);
	const clients: Nfs3Client[] = [];
	for (let i = 0; i < needed + 20; i++) {
		const client = await Nfs3Client.connect(at.socket);
		clients.push(client);
		const root = await client.root();
		if (i % 50 === 0) await ok(client.mkdir(root, `of ${i}`), `of ${i}`);
	}
	for (const client of clients) client.close();
	await assertServes(at, "fewer");
	assert.equal(stderr, "");
	await assertEndsWell(child, ended);
});

test("output that cannot be written is one sentence and a failure, whatever the command", { skip }, (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { "dir/file": "contents" });
	const given = ["--lower", lower, "--upper", made.folder("upper"), "--state-dir", made.folder("state")];
	const portable = ["--lower", lower, "--upper", made.folder("portable"), "--state-dir", made.folder("state"), "--handles", "portable"];
	const files = plant(made.folder("files"), { file: "one" });
	const archive = join(made.path, "layer.tar");
	execFileSync("tar", ["-C", files, "-cf", archive, "file"]);
	const FULL = openSync("/dev/full", "w");
	t.after(() => closeSync(FULL));
	const run = (args: readonly string[], stdout: number | "pipe") =>
		spawnSync(process.execPath, [MODULES, ...args], { encoding: "utf8", stdio: ["ignore", stdout, "pipe"] });
	const released = given.map((word) => (word === join(made.path, "upper") ? made.folder("released") : word));
	for (const layers of [given, portable, released]) assert.equal(runHoldfast(["adopt", ...layers]).code, 0);
	mkdirSync(made.folder("images"), { recursive: true });
	const commands: Record<string, readonly string[]> = {
		"--version": [],
		"--help": [],
		serve: ["--help"],
		handle: ["0101010059ae26d800010108e8f70300000000004f2ba1c1d2b5a8f0"],
		key: ["list", ...given],
		check: given,
		adopt: given,
		settle: given,
		release: released,
		unpack: [archive, made.folder("images")],
		rebase: ["--lower", lower, "--upper", join(made.path, "portable")],
		fork: ["--upper", join(made.path, "portable")],
		rebind: given,
	};
	for (const [command, args] of Object.entries(commands)) {
		const { status, stderr } = run([command, ...args], FULL);
		assert.equal(stderr, "holdfast: Cannot write the output: there is no room on the device (ENOSPC).\n", command);
		// as fsck(8): 1 would say that something was repaired
		assert.equal(status, command === "check" ? 8 : 1, command);
	}
});
