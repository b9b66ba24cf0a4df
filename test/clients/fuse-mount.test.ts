// A FUSE mount as its users see it: over its own lower, with files that are open, and with a server that is killed.

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { Op } from "../../src/nfs4/protocol.ts";
import { RpcClient } from "../../src/rpc/rpc-client.test-support.ts";
import { Nfs4Client, OK, pass, ROOT_STEP, type Step, stateidOf } from "../../src/server/nfs4-client.test-support.ts";
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

test("files tell when they were made, before and after they are copied up, and ranges are zeroed, reserved, freed and copied", {
	skip,
}, async (t) => {
	const { made, lower, at, options } = stand(t);
	const ask = shell(t, lower);
	const [file, folder] = [await ask("stat -c %w folder/file"), await ask("stat -c %w folder")];
	const mount = await FuseMountOfTest.start(made, at, options);
	const inMount = shell(t, at);
	for (const change of ["true", "echo more >>folder/file; touch folder/new"]) {
		await inMount(`${change}; echo`);
		assert.deepEqual([await inMount("stat -c %w folder/file"), await inMount("stat -c %w folder")], [file, folder]);
		assert.match(await inMount("stat -c %w ."), /^\d{4}-/);
		await mount.kill();
		await mount.startServer();
	}
	const size = () => inMount("stat -c %s folder/range");
	await inMount("yes | head -c 20000 >folder/range; sync folder/range; echo");
	assert.equal(await inMount("fallocate -n -o 10000 -l 50000 folder/range && echo $?"), "0");
	assert.equal(await size(), "20000");
	assert.equal(await inMount("fallocate -z -o 15000 -l 10000 folder/range && echo $?"), "0");
	assert.equal(await size(), "25000");
	assert.equal(await inMount("fallocate -p -o 0 -l 8192 folder/range && tr -d '\\0' <folder/range | wc -c"), `${15_000 - 8192}`);
	const seek = `perl -e 'open my $f, "<", "folder/range"; print sysseek($f, 0, 3), "\\n"'`;
	assert.equal(await inMount(seek), "8192");
	assert.equal(
		await inMount("cp --reflink=never folder/range folder/copy && cmp folder/range folder/copy && sync -f folder; echo $?"),
		"0",
	);
	await inMount("exec 0<&-");
	assert.equal(await mount.unmount(), 0);
});

/** O_TMPFILE by a program of its own: says its descriptor, then how many links the file has, each time that it is asked. */
const UNNAMED_FILE = `
	use strict; use Fcntl; $| = 1;
	sysopen my $f, "folder", 020200002, 0640 or die "open: $!";
	syswrite $f, "of no name";
	print fileno $f, "\\n";
	while (<STDIN>) { print((stat $f)[3], "\\n"); }`;

test("a file without a name is there while it is open, over a server that is killed, and may be given a name", { skip }, async (t) => {
	const { made, at, options } = stand(t);
	const mount = await FuseMountOfTest.start(made, at, options);
	const child = spawn("perl", ["-e", UNNAMED_FILE], { cwd: at, stdio: ["pipe", "pipe", "inherit"] });
	t.after(() => child.kill("SIGKILL"));
	const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
	const next = async (): Promise<string> => (await lines.next()).value as string;
	const links = (): Promise<string> => {
		child.stdin.write("\n");
		return next();
	};
	const file = `/proc/${child.pid}/fd/${await next()}`;
	assert.equal(await links(), "0");
	await mount.kill();
	await mount.startServer();
	assert.equal(await links(), "0");
	assert.deepEqual((await run("ls", ["-A", "folder"], { cwd: at })).stdout, "below\nfile\n");
	await run("ln", ["-L", file, "folder/named"], { cwd: at });
	await mount.kill();
	await mount.startServer();
	assert.equal(await links(), "1");
	child.stdin.end();
	assert.equal((await run("cat", ["folder/named"], { cwd: at })).stdout, "of no name");
	assert.equal(readFileSync(join(options.upper as string, "folder/named"), "utf8"), "of no name");
});

test("with writes left to the page cache content, sizes and times are those of the programs, over a server that is killed", {
	skip,
}, async (t) => {
	const { made, at, options } = stand(t);
	const mount = await FuseMountOfTest.start(made, at, { ...options, writesBack: true });
	const ask = shell(t, join(at, "folder"));
	// a descriptor that is closed has its writes written back
	const write = `open my $f, ">>", "new" or die; for (1..5) { syswrite $f, "$_\\n"; print -s "new", "\\n"; <STDIN>; }`;
	const writer = spawn("perl", ["-e", `$| = 1; ${write}`], { cwd: join(at, "folder"), stdio: ["pipe", "pipe", "inherit"] });
	t.after(() => writer.kill("SIGKILL"));
	const sizes = createInterface(writer.stdout)[Symbol.asyncIterator]();
	for (let written = 1; written <= 4; written++) {
		assert.equal((await sizes.next()).value, `${2 * written}`);
		if (written === 3) {
			await mount.kill();
			await mount.startServer();
		}
		writer.stdin.write("\n");
	}
	assert.equal((await sizes.next()).value, "10");
	assert.equal(await ask("cat new | tr '\\n' ' '; echo"), "1 2 3 4 5 ");
	writer.stdin.end();
	assert.equal(await ask("echo more >>file; touch -d @1000000000 file; stat -c '%Y %s' file"), "1000000000 17");
	assert.equal(await ask("echo x >big; dd if=/dev/zero of=big bs=1000 count=5000 conv=notrunc 2>/dev/null; stat -c %s big"), "5000000");
	assert.equal(
		await ask("chmod 4755 new; setpriv --reuid 1000 --clear-groups sh -c 'echo 6 >>new' 2>/dev/null; echo $?"),
		"2",
		"no right to write",
	);
	assert.equal(await ask("chmod 4777 new; setpriv --reuid 1000 --clear-groups sh -c 'echo 6 >>new'; stat -c %a new"), "777");
	assert.equal(await ask("sync; cd /; echo"), "");
	assert.equal(await mount.unmount(), 0);
	const upper = (path: string) => join(options.upper as string, "folder", path);
	assert.equal(readFileSync(upper("new"), "utf8"), "1\n2\n3\n4\n5\n6\n");
	assert.equal(readFileSync(upper("file"), "utf8"), "of the lowermore\n");
	assert.equal(statSync(upper("file")).mtimeMs, 1e12);
	assert.equal(statSync(upper("big")).size, 5_000_000);
});

/** fcntl(2) as a program of its own: how it went. */
const LOCK_RANGE = `
	use strict; use Fcntl qw(:seek F_SETLK F_SETLKW F_GETLK F_WRLCK); $| = 1;
	my ($how, $start, $length) = @ARGV;
	open my $f, "+<", "file" or die "open: $!";
	my $lock = pack "s s x4 q q i x4", F_WRLCK, SEEK_SET, $start, $length, 0;
	local $SIG{ALRM} = sub {};
	alarm 1 if $how eq "interrupted";
	my $done = fcntl $f, $how eq "test" ? F_GETLK : $how eq "try" ? F_SETLK : F_SETLKW, $lock;
	my ($type, undef, $at, $size) = unpack "s s x4 q q i x4", $lock;
	print $how eq "test" ? "$type $at $size\n" : $done ? "locked\n" : "$!\n";`;

/** An NFS client that has a file open, on a connection of its own to each server. */
class LockingClient {
	#client: Nfs4Client | null = null;
	readonly #put: Step[] = [ROOT_STEP, [Op.lookup, "folder"], [Op.lookup, "file"]];
	#open: { raw: Buffer } = { raw: Buffer.alloc(16) };

	async connect(port: number): Promise<void> {
		const client = new Nfs4Client(await RpcClient.connect({ host: "127.0.0.1", port }));
		const before = this.#client;
		this.#client = client;
		if (before !== null) {
			Object.assign(client, { session: before.session, sequence: before.sequence });
			return;
		}
		await client.exchangeId();
		await client.createSession();
		assert.equal(await client.status([Op.reclaimComplete, 0]), OK);
		const { reader, status } = await client.run(...this.#put.slice(0, 2), [Op.open, 0, 3, 0, 0, 0, "owner", 0, 0, "file"]);
		assert.equal(status, OK);
		pass(reader, Op.putrootfh, Op.lookup, Op.open);
		this.#open = stateidOf(reader);
	}

	/** The stateid of the lock; null: denied. */
	async lock(from: number, length: number, owner: string): Promise<{ raw: Buffer } | null> {
		const client = this.#client as Nfs4Client;
		const { reader, status } = await client.run(...this.#put, [Op.lock, 2, 0, 0, from, 0, length, 1, 0, this.#open, 0, 9, 9, owner]);
		if (status !== OK) return null;
		pass(reader, Op.putrootfh, Op.lookup, Op.lookup, Op.lock);
		return stateidOf(reader);
	}

	async unlock(lock: { raw: Buffer }, from: number, length: number): Promise<void> {
		assert.equal(await (this.#client as Nfs4Client).status(...this.#put, [Op.locku, 2, 0, lock, 0, from, 0, length]), OK);
	}

	close(): void {
		this.#client?.rpc.socket.destroy();
	}
}

test("locks of both kinds hold between the mount and NFS clients, over a server that is killed, and who waits can be interrupted", {
	skip,
}, async (t) => {
	const { made, at, options } = stand(t);
	const mount = await FuseMountOfTest.start(made, at, { ...options, nfsPort: 0, versions: [3, 4] });
	const client = new LockingClient();
	t.after(() => client.close());
	await client.connect(mount.port);
	const cwd = join(at, "folder");
	const perl = async (...args: string[]) => (await run("perl", ["-e", LOCK_RANGE, ...args], { cwd })).stdout.trim();
	const held = await client.lock(0, 10, "one");
	assert.ok(held !== null);
	assert.equal(await perl("try", "5", "1"), "Resource temporarily unavailable");
	assert.equal(await perl("test", "5", "100"), "1 0 10");
	assert.equal(await perl("interrupted", "5", "1"), "Interrupted system call");
	assert.equal(await perl("try", "10", "1"), "locked");
	const ask = shell(t, cwd);
	assert.equal(await ask("flock -n file true; echo $?"), "1");
	await mount.kill();
	await mount.startServer();
	await client.connect(mount.port);
	assert.equal(await perl("try", "5", "1"), "Resource temporarily unavailable");
	const waiting = perl("wait", "5", "1");
	await mount.kill();
	await mount.startServer();
	await client.connect(mount.port);
	await client.unlock(held, 0, 10);
	assert.equal(await waiting, "locked");
	assert.equal(await ask("exec 8<>file; flock 8; (flock -n file true; echo $?)"), "1");
	assert.equal(await client.lock(0, 10, "two"), null);
	await mount.kill();
	await mount.startServer();
	await client.connect(mount.port);
	assert.equal(await client.lock(0, 10, "two"), null);
	assert.equal(await ask("exec 8>&-; flock -n file true; echo $?"), "0");
	const last = await client.lock(0, 10, "two");
	assert.ok(last !== null);
	assert.equal(await ask("flock -n file true; echo $?"), "1");
	const killed = spawn("flock", ["file", "true"], { cwd });
	killed.kill("SIGKILL");
	await client.unlock(last, 0, 10);
	assert.equal(await ask("exec 8<&-; flock file true; echo $?"), "0");
	await ask("exit");
	assert.equal(await mount.unmount(), 0);
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
