// A FUSE mount as its users see it: over its own lower, with files that are open, and with a server that is killed.

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { FuseMountOfTest, type FuseServerOptions } from "../in-process/fuse-mount.ts";
import { Nfs3Client } from "../support/nfs3-client.ts";
import { needs } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";

const skip = needs("root", "fuse");
const run = promisify(execFile);

/** A lower with a few files and folders, and where the rest may lie. */
function stand(t: TestContext): { made: Scratch; lower: string; at: string; options: FuseServerOptions } {
	const made = scratch(t);
	const disk = made.mount("tmpfs", "layers", 256);
	const folder = (name: string) => {
		mkdirSync(join(disk, name), { mode: 0o755 });
		return join(disk, name);
	};
	const [lower, upper] = ["lower", "upper"].map(folder) as [string, string];
	mkdirSync(join(lower, "folder/below"), { recursive: true });
	writeFileSync(join(lower, "folder/file"), "of the lower");
	writeFileSync(join(lower, "folder/below/other"), "another");
	const options = { lowers: [lower], upper, work: join(disk, "work"), stateFolder: join(disk, "state") };
	return { made, lower, at: made.folder("mount"), options };
}

test("a mount on its own lower shows the lower with its changes, and nothing hangs", { skip }, async (t) => {
	const { made, lower, options } = stand(t);
	const mount = await FuseMountOfTest.start(made, lower, options);
	const listing = execFileSync("ls", ["-R", lower], { encoding: "utf8" });
	assert.match(listing, /folder\/below:\nother\n/);
	writeFileSync(join(lower, "folder/file"), "changed");
	assert.equal(readFileSync(join(options.upper as string, "folder/file"), "utf8"), "changed");
	assert.equal(await mount.unmount(), 0);
	assert.equal(readFileSync(join(lower, "folder/file"), "utf8"), "of the lower");
});

/** A shell that does a line at a time, and says what came of each. */
function shell(t: TestContext, cwd: string) {
	const child = spawn("sh", [], { cwd, stdio: ["pipe", "pipe", "inherit"] });
	t.after(() => child.kill("SIGKILL"));
	const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
	return async (line: string): Promise<string> => {
		child.stdin.write(`${line}\n`);
		return (await lines.next()).value as string;
	};
}

test("what programs have open, their working directory and files without a name outlive the server", { skip }, async (t) => {
	const { made, at, options } = stand(t);
	const mount = await FuseMountOfTest.start(made, at, options);
	const ask = shell(t, join(at, "folder"));
	const opened = "exec 5<>file 6<below/other 7>fresh; rm file below/other fresh; echo new >&7; echo $?";
	assert.equal(await ask(opened), "0");
	await mount.kill();
	await mount.startServer();
	assert.equal(await ask("head -c 100 /proc/self/fd/5; echo"), "of the lower");
	assert.equal(await ask("head -c 100 <&6; echo"), "another");
	assert.equal(await ask("printf x >&5; echo more >&7; head -c 100 /proc/self/fd/7 | tr '\\n' ' '; echo"), "new more ");
	assert.equal(await ask("stat -L -c '%h %s' /proc/self/fd/5"), "0 12");
	assert.equal(await ask("ls -A; echo end"), "below");
	assert.equal(await ask("exec 5>&- 6>&- 7>&-; echo closed"), "end");
	await ask("");
	assert.equal(await mount.unmount().catch(() => "busy"), "busy");
});

test("a server that is killed again and again is noticed by nobody, and no change is made twice", { skip }, async (t) => {
	const { made, at, options } = stand(t);
	const mount = await FuseMountOfTest.start(made, at, options);
	const script = `
		set -e
		i=0
		while [ $i -lt 60 ]; do
			mkdir d$i; echo $i >d$i/f; ln d$i/f d$i/g; mv d$i/f d$i/h; ln -s h d$i/s
			test "$(cat d$i/s)" = $i; chmod 600 d$i/h
			rm d$i/g; test ! -e d$i/g; mkdir d$i/e; rmdir d$i/e; mv d$i e$i
			i=$((i + 1))
		done
		i=0
		while [ $i -lt 60 ]; do test "$(cat e$i/h)" = $i; test "$(stat -c %h e$i/h)" = 1; rm -r e$i; i=$((i + 1)); done`;
	const work = run("sh", ["-c", script], { cwd: join(at, "folder") });
	let isDone = false;
	const end = work.finally(() => {
		isDone = true;
	});
	for (let i = 0; i < 6 && !isDone; i++) {
		await new Promise((resolve) => setTimeout(resolve, 150 + 37 * i));
		await mount.kill();
		await mount.startServer();
	}
	await end;
	assert.deepEqual((await run("ls", ["-A", join(at, "folder")])).stdout.trim().split("\n"), ["below", "file"]);
	assert.equal(await mount.unmount(), 0);
});

test("what an NFS client changes is seen in the mount: names that come, go and move, content, and files that are open", {
	skip,
}, async (t) => {
	const { made, at, options } = stand(t);
	const mount = await FuseMountOfTest.start(made, at, { ...options, nfsPort: 0 });
	const client = await Nfs3Client.connect(mount.port);
	t.after(() => client.close());
	const folder = await client.walk(await client.root(), "folder");
	const ask = shell(t, join(at, "folder"));
	/** Asks until the answer is that; how long it took is for people to read. */
	const until = async (line: string, answer: string) => {
		const start = performance.now();
		while ((await ask(line)) !== answer);
		t.diagnostic(`${line}: after ${Math.round(performance.now() - start)} ms`);
	};
	assert.equal(await ask("test -e new; echo $?"), "1");
	await client.createFile(folder, "new", "first");
	await until("test -e new; echo $?", "0");
	assert.equal(await ask("cat new; echo"), "first");
	assert.equal(await ask("exec 5<new; pwd -P"), join(at, "folder"));
	await client.writeFile(await client.walk(folder, "new"), "second");
	await until("cat new; echo", "second");
	await client.rename(folder, "new", folder, "moved");
	await until("ls -m", "below, file, moved");
	assert.equal((await client.remove(folder, "moved")).status, 0);
	await until("ls -m", "below, file");
	assert.equal(await ask("head -c 100 /proc/self/fd/5; echo"), "second", "what is open in the mount lives on");
	assert.equal(await ask("pwd -P"), join(at, "folder"));
	await ask("echo here >own; echo");
	assert.equal((await client.readFile(await client.walk(folder, "own"))).toString(), "here\n");
});

test("git works in a mount, and what it made is whole", { skip: skip || needs("git") }, async (t) => {
	const { made, at, options } = stand(t);
	const mount = await FuseMountOfTest.start(made, at, options);
	const git = (...args: string[]) =>
		run("git", ["-C", at, "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main", ...args]);
	await git("init", "-q");
	for (let i = 0; i < 3; i++) {
		writeFileSync(join(at, `folder/${i}`), `${i}\n`);
		await git("add", "-A");
		await git("commit", "-qm", `number ${i}`);
	}
	await git("checkout", "-q", "HEAD~2");
	await git("checkout", "-q", "main");
	await git("gc", "-q");
	await git("fsck", "--strict");
	assert.equal((await git("status", "--porcelain")).stdout, "");
	assert.equal(await mount.unmount(), 0);
});
