// `holdfast run`: what a command sees and may change, how it ends, who joins it, and what is left when somebody is killed.

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { serverOf } from "../support/fuse-mount.ts";
import { asFuseUser } from "../support/fuse-user.ts";
import { HANG_MILLISECONDS, missing, needs, onlyInAll, repository } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { diesWithParent, ordinaryUser } from "../support/server-process.ts";
import { quote } from "../support/terminal.ts";

const skip = needs("root", "fuse", "setpriv", "unshare", "nsenter");
const rest = skip || onlyInAll;

interface Ran {
	readonly status: number | null;
	readonly stdout: string;
	readonly stderr: string;
}

/** A project, and a user who runs commands on it. */
class Stand {
	readonly made: Scratch;
	readonly project: string;
	readonly #user: { readonly uid: number; readonly gid: number; readonly main: string } | null;
	readonly #home: string;
	readonly #hidden: readonly string[];
	readonly #device: string | undefined;

	constructor(t: TestContext, who: "root" | "user", hidden: readonly string[] = [], device?: string) {
		this.#device = device;
		this.made = scratch(t);
		this.project = this.made.folder("a project");
		this.#home = this.made.folder("home");
		this.#hidden = hidden;
		this.#user = who === "root" ? null : ordinaryUser(this.made);
		mkdirSync(join(this.project, "src"));
		writeFileSync(join(this.project, "file"), "of the project\n");
		writeFileSync(join(this.project, "src/main"), "below\n");
		const { uid, gid } = this.#user ?? { uid: 0, gid: 0 };
		for (const path of [this.project, this.#home, "src", "file", "src/main"])
			chownSync(path.startsWith("/") ? path : join(this.project, path), uid, gid);
	}

	/** In a state folder of its own, for root too, whose sessions are else the machine's. */
	get state(): string {
		return join(this.#home, ".local/state/holdfast");
	}

	command([name = "", ...args]: readonly string[]): string[] {
		const main = this.#user?.main ?? join(repository, "dist/src/cli/main.js");
		const words = [process.execPath, main, name, "--state-dir", this.state, ...args];
		return this.#user === null ? words : asFuseUser(this.made, words, { hidden: this.#hidden, device: this.#device });
	}

	get options() {
		return { cwd: this.project, env: { ...process.env, HOME: this.#home, XDG_RUNTIME_DIR: "" } };
	}

	holdfast(...args: readonly string[]): Ran {
		const [file, ...words] = this.command(args);
		return spawnSync(file as string, words, { ...this.options, encoding: "utf8", timeout: HANG_MILLISECONDS });
	}

	/** A shell script as the command. */
	run(script: string, ...options: readonly string[]): Ran {
		return this.holdfast("run", ...options, "--", "sh", "-c", script);
	}

	/** The same while the test goes on. */
	start(script: string, ...options: readonly string[]): Beside {
		const beside = new Beside(this.command(["run", ...options, "--", "sh", "-c", script]), this.options);
		this.made.beforeRemoval(async () => {
			beside.child.kill("SIGKILL");
			await beside.closed;
		});
		return beside;
	}

	sessions(): { readonly name: string; readonly inUse: boolean }[] {
		return JSON.parse(this.holdfast("run", "--list", "--json").stdout).sessions;
	}

	/** What the project is for everybody else: as it was. */
	assertUntouched(): void {
		assert.deepEqual(readdirSync(this.project).sort(), ["file", "src"]);
		assert.deepEqual(readdirSync(join(this.project, "src")), ["main"]);
		assert.equal(readFileSync(join(this.project, "file"), "utf8"), "of the project\n");
	}
}

class Beside {
	readonly child: ChildProcess;
	readonly closed: Promise<unknown>;
	stdout = "";
	stderr = "";

	constructor(command: readonly string[], options: object) {
		const [file, words] = diesWithParent([...command]);
		this.child = spawn(file, words, { ...options, stdio: ["ignore", "pipe", "pipe"] });
		this.closed = once(this.child, "close");
		this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
			this.stdout += text;
		});
		this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
			this.stderr += text;
		});
	}

	async said(line: string): Promise<void> {
		while (!this.stdout.includes(line)) {
			if (this.child.exitCode !== null) throw new Error(`it has ended: ${this.stderr}`);
			await new Promise((resolve) => setTimeout(resolve, 10));
		}
	}

	async ended(): Promise<number | null> {
		await this.closed;
		return this.child.exitCode;
	}
}

/** The lines that tell what was changed. */
function changes({ stderr }: Ran): string[] {
	return stderr.split("\n").filter((line) => /^[ADMTRP] {2}/.test(line));
}

const WORK = `
pwd; id -u; cat file
echo changed >file; mv src lib; rm lib/main; echo new >made
touch /usr/not 2>&1 | grep -o "Read-only file system"
touch /tmp/private && ls /tmp/private
grep -E "CapEff|NoNewPrivs" /proc/self/status | tr -d '\\t '
exit 7`;

for (const who of ["root", "user"] as const) {
	test(`a command of ${who === "root" ? "root" : "an ordinary user"} works on a copy of its directory at the same path: what it changed is told and kept, and the directory is as it was`, {
		skip,
	}, (t) => {
		const stand = new Stand(t, who);
		const ran = stand.run(WORK, "--session", "work");
		const rights = who === "root" ? "CapEff:00000000000004fb" : "CapEff:0000000000000000";
		const expected = [stand.project, who === "root" ? "0" : "65534", "of the project", "Read-only file system", "/tmp/private", rights];
		assert.equal(ran.stdout, `${[...expected, "NoNewPrivs:1"].join("\n")}\n`, ran.stderr);
		assert.equal(ran.status, 7);
		assert.deepEqual(changes(ran), ["R  src/ -> lib/", "D  lib/main", "M  file", "A  made"].sort(byPath), ran.stderr);
		stand.assertUntouched();
		const again = stand.run("cat file made; ls", "--session", "work", "--on-exit", "discard");
		assert.equal(again.stdout, "changed\nnew\nfile\nlib\nmade\n", again.stderr);
		assert.deepEqual(stand.sessions(), []);
		stand.assertUntouched();
	});
}

function byPath(one: string, other: string): number {
	const pathOf = (line: string) => line.slice(3).split(" -> ").at(-1) as string;
	return pathOf(one) < pathOf(other) ? -1 : 1;
}

test("files of other users and groups can be read, renamed and removed as outside, and written where they could be there", {
	skip,
}, (t) => {
	const stand = new Stand(t, "user");
	const { project } = stand;
	const owned = (name: string, mode: number, uid: number) => {
		const path = join(project, name);
		writeFileSync(path, `${name}\n`);
		chownSync(path, uid, 12);
		chmodSync(path, mode);
	};
	const { uid } = statSync(project);
	owned("of a group", 0o664, uid);
	owned("theirs", 0o644, 11);
	owned("open", 0o666, 11);
	owned("secret", 0o600, 11);
	owned("gone", 0o644, 11);
	const ran = stand.run(`
		set -e
		echo more >>"of a group"; mv "of a group" g; cat g theirs
		! echo more >>theirs; ! cat secret; echo more >>open; cat open
		mv theirs t; rm gone; mkdir d; mv src d/src; ls`);
	assert.equal(ran.stdout, "of a group\nmore\ntheirs\nopen\nmore\nd\nfile\ng\nopen\nsecret\nt\n", ran.stderr);
	assert.match(ran.stderr, /theirs: Permission denied/);
	assert.match(ran.stderr, /secret: Permission denied/);
});

test("the exit status is the command's, 128 and the signal that ended it, 127 where there is none, and 126 where it cannot be run", {
	skip: rest,
}, (t) => {
	const stand = new Stand(t, "root");
	assert.equal(stand.run("kill -SEGV $$").status, 139);
	const none = stand.holdfast("run", "--", "no-such-command");
	assert.equal(none.status, 127);
	assert.match(none.stderr, /^holdfast: There is no command no-such-command\.$/m);
	const closed = stand.holdfast("run", "--", "./file");
	assert.equal(closed.status, 126);
	assert.match(closed.stderr, /^holdfast: Cannot run \.\/file: it is not executable\.$/m);
	assert.equal(stand.holdfast("run", "--", "printf", "%s|", "", "two words").stdout, "|two words|");
	assert.equal(stand.run('cd src && rmdir "$PWD" 2>/dev/null; rm -r ../src; cd .. && ls', "--on-exit", "discard").stdout, "file\n");
	// nothing was changed, or all was discarded
	assert.deepEqual(stand.sessions(), []);
});

test("a part of a session is applied, the rest discarded, and all of another one applied at its end, unless the directory has changed meanwhile", {
	skip: rest,
}, (t) => {
	const stand = new Stand(t, "user");
	const text = (path: string) => readFileSync(join(stand.project, path), "utf8");
	stand.run("echo taken >file; echo refused >src/main; echo also >new", "--session", "proposal");
	stand.assertUntouched();
	const applied = stand.holdfast("apply", "proposal", "file", "--yes");
	assert.equal(applied.status, 0, applied.stderr);
	assert.equal(text("file"), "taken\n");
	assert.equal(stand.holdfast("discard", "proposal", "src", "new", "--yes").status, 0);
	assert.equal(stand.run("cat file src/main; ls", "--session", "proposal").stdout, "taken\nbelow\nfile\nsrc\n");
	const whole = stand.run("mv src lib; rm file; echo made >made; echo out", "--on-exit", "apply");
	assert.equal(whole.stdout, "out\n", whole.stderr);
	assert.deepEqual(readdirSync(stand.project).sort(), ["lib", "made"], whole.stderr);
	assert.equal(text("lib/main"), "below\n");
	const late = stand.run("echo mine >made", "--session", "late");
	assert.deepEqual(changes(late), ["M  made"], late.stderr);
	writeFileSync(join(stand.project, "made"), "theirs, meanwhile\n");
	const refused = stand.run("true", "--session", "late", "--on-exit", "apply");
	assert.match(refused.stderr, /^holdfast: Cannot apply: 1 change meets something else/m);
	assert.match(refused.stderr, /^holdfast: The changes are kept, in session late\.$/m);
	assert.equal(text("made"), "theirs, meanwhile\n");
	assert.deepEqual(
		stand.sessions().map(({ name }) => name),
		["late", "proposal"],
	);
});

test("two commands in one session see each other's changes, and the last one tells them all", { skip: rest }, async (t) => {
	const stand = new Stand(t, "user");
	const first = stand.start("echo one >one; echo up; until test -s two; do sleep 0.05; done; cat two", "--session", "both");
	await first.said("up\n");
	const second = stand.run("cat one; echo two >two", "--session", "both");
	assert.equal(second.stdout, "one\n", second.stderr);
	assert.equal(await first.ended(), 0, first.stderr);
	assert.equal(first.stdout, "up\ntwo\n");
	const told = [second.stderr, first.stderr].map((stderr) => changes({ status: 0, stdout: "", stderr }));
	assert.deepEqual(
		told.filter((lines) => lines.length > 0),
		[["A  one", "A  two"]],
	);
	assert.deepEqual(
		stand.sessions().map(({ name, inUse }) => [name, inUse]),
		[["both", false]],
	);
	assert.match(stand.holdfast("run", "--drop", "both").stderr, /^holdfast: The session both is gone, with its changes\.$/m);
	assert.deepEqual(stand.sessions(), []);
	stand.assertUntouched();
});

test("a signal reaches the command, and one that ignores SIGTERM is killed by the third", { skip: rest }, async (t) => {
	const stand = new Stand(t, "root");
	const polite = stand.start('trap "exit 3" TERM; echo up; while :; do sleep 0.05; done');
	await polite.said("up\n");
	polite.child.kill("SIGTERM");
	assert.equal(await polite.ended(), 3, polite.stderr);
	const stubborn = stand.start('trap "echo no" TERM; echo up; while :; do sleep 0.05; done');
	await stubborn.said("up\n");
	for (const count of [1, 2]) {
		stubborn.child.kill("SIGTERM");
		await stubborn.said("no\n".repeat(count));
	}
	stubborn.child.kill("SIGTERM");
	assert.equal(await stubborn.ended(), 137, stubborn.stderr);
});

test("what a command leaves behind is ended, unless --linger waits for it", { skip: rest }, (t) => {
	const stand = new Stand(t, "root");
	const left = stand.run("(sleep 600; echo late >late) >/dev/null 2>&1 & exit 4");
	assert.deepEqual([left.status, changes(left)], [4, []], left.stderr);
	const waited = stand.run("(sleep 0.3; echo late >late) >/dev/null 2>&1 & exit 4", "--linger", "--on-exit", "discard");
	assert.deepEqual([waited.status, changes(waited)], [4, ["A  late"]], waited.stderr);
});

test("--allow is changed for real, --hide is seen empty, and --no-network leaves the loopback alone", {
	skip: rest || needs("ip"),
}, (t) => {
	const stand = new Stand(t, "root");
	const [open, closed] = [stand.made.folder("open"), stand.made.folder("closed")];
	writeFileSync(join(open, "there"), "as it is\n");
	writeFileSync(join(closed, "secret"), "");
	const ran = stand.run(
		`cat '${open}/there'; echo real >'${open}/made'; ls '${closed}' src; echo >'${closed}/x'; cat file; ip -o link | wc -l`,
		...["--allow", open, "--allow", closed, "--hide", closed, "--hide", "src", "--hide", "file", "--no-network"],
	);
	assert.equal(ran.stdout, `as it is\n${closed}:\n\nsrc:\n1\n`, ran.stderr);
	assert.equal(readFileSync(join(open, "made"), "utf8"), "real\n");
	assert.deepEqual(readdirSync(closed), ["secret"]);
	stand.assertUntouched();
});

test("at a terminal a shell has job control, and at its end a question is asked", { skip: rest || needs("script", "bash") }, async (t) => {
	const stand = new Stand(t, "user");
	const [file, ...words] = stand.command(["run", "--session", "typed", "--", "bash", "--norc", "-i"]);
	const typed = spawn("script", ["-qec", [file as string, ...words].map(quote).join(" "), "/dev/null"], {
		...stand.options,
		stdio: "pipe",
	});
	stand.made.beforeRemoval(() => typed.kill("SIGKILL"));
	let seen = "";
	typed.stdout.setEncoding("utf8").on("data", (text: string) => {
		seen += text;
	});
	const closed = once(typed, "close");
	const until = async (pattern: RegExp) => {
		while (!pattern.test(seen)) {
			assert.equal(typed.exitCode, null, seen);
			await new Promise((resolve) => setTimeout(resolve, 10));
		}
		seen = "";
	};
	await until(/bash-[\d.]+[$#] /);
	typed.stdin.write("echo $((40 + 2)); echo new >new; sleep 1000\n");
	await until(/42\r\n/);
	// what is typed before a program reads waits for it: sleep(1) has to be in the foreground
	await new Promise((resolve) => setTimeout(resolve, 100));
	for (let isStopped = false; !isStopped; ) {
		typed.stdin.write("\x1a");
		await new Promise((resolve) => setTimeout(resolve, 100));
		isStopped = /Stopped/.test(seen);
	}
	typed.stdin.write("kill %1; fg; exit 9\n");
	await until(/1 change: \[keep, apply, discard\] /);
	typed.stdin.write("d\n");
	await until(/discarded\./);
	assert.equal((await closed)[0], 9);
	assert.deepEqual(stand.sessions(), []);
});

test("git, a compiler and moves of directories work on a copy", { skip: rest || needs("git") }, (t) => {
	const stand = new Stand(t, "user");
	const compile = missing("cc") ? "echo 3" : `printf 'int main(){return 3;}' >a.c; cc a.c -o a; ./a; echo $?`;
	const script = `
export GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
git init -q . && git add . && git commit -qm first && git mv src other && git commit -qm second && git checkout -q HEAD~1 && git fsck 2>&1
git log --oneline --all | wc -l; ls -d src; mkdir -p a/b && touch a/b/c && mv a d && ls d/b; ${compile}`;
	const ran = stand.run(script, "--session", "built");
	assert.equal(ran.stdout, "2\nsrc\nc\n3\n", ran.stderr);
	assert.equal(ran.status, 0);
	stand.assertUntouched();
});

test("what is killed leaves a session that is listed, keeps its changes, and can be dropped", { skip: rest }, async (t) => {
	const stand = new Stand(t, "root");
	const left = async () => {
		while (stand.sessions().some(({ inUse }) => inUse)) await new Promise((resolve) => setTimeout(resolve, 50));
	};
	const begin = async (name: string) => {
		const beside = stand.start(`echo ${name} >${name}; echo up; exec sleep 1000`, "--session", name);
		await beside.said("up\n");
		const record = JSON.parse(readFileSync(join(stand.state, "sessions", name, "session.json"), "utf8"));
		return { beside, keeper: record.session.keeper.pid as number };
	};
	const first = await begin("by-run");
	first.beside.child.kill("SIGKILL");
	await left();
	const second = await begin("by-keeper");
	process.kill(second.keeper, "SIGKILL");
	assert.equal(await second.beside.ended(), 137, second.beside.stderr);
	assert.match(second.beside.stderr, /The keeper of the session by-keeper has ended/);
	const third = await begin("by-server");
	process.kill(serverOf(third.keeper) as number, "SIGKILL");
	assert.equal(stand.run("cat by-server", "--session", "by-server").stdout, "by-server\n");
	third.beside.child.kill("SIGTERM");
	await third.beside.ended();
	for (const name of ["by-run", "by-keeper", "by-server"]) {
		assert.equal(stand.run(`cat ${name}`, "--session", name).stdout, `${name}\n`);
		assert.equal(stand.holdfast("run", "--drop", name).status, 0);
	}
	assert.deepEqual(stand.sessions(), []);
	stand.assertUntouched();
});

test("where namespaces are closed the copy is at another path, for who says --anyway, and never is the directory itself changed", {
	skip: rest || needs("fusermount3"),
}, (t) => {
	const stand = new Stand(t, "user", ["nsenter", "unshare"]);
	const refused = stand.run("echo changed >file");
	assert.deepEqual([refused.status, refused.stdout], [1, ""], refused.stderr);
	assert.match(refused.stderr, /^holdfast: Cannot make a sandbox: /m);
	assert.match(refused.stderr, /nothing else is read-only, .* To run it all the same give --anyway\.$/m);
	assert.deepEqual(stand.sessions(), []);
	const ran = stand.run("pwd; echo changed >file; cat file; exit 5", "--anyway", "--session", "beside");
	assert.match(ran.stdout, /sessions\/beside\/views\/beside\nchanged\n$/, ran.stderr);
	assert.match(ran.stderr, /Nothing else is read-only: there is no sandbox\./);
	assert.deepEqual([ran.status, changes(ran)], [5, ["M  file"]]);
	assert.match(stand.run("true", "--anyway", "--hide", "src").stderr, /--hide and --no-network take a sandbox/);
	assert.equal(stand.holdfast("run", "--drop", "beside").status, 0);
	stand.assertUntouched();
});

test("without /dev/fuse, or where it is closed, a sentence says what helps, and nothing is run", { skip: rest }, (t) => {
	const stand = new Stand(t, "user", [], "/dev/full");
	const ran = stand.run("echo changed >file", "--anyway");
	assert.deepEqual([ran.status, ran.stdout], [1, ""], ran.stderr);
	assert.match(ran.stderr, /^holdfast: Cannot make a sandbox: [^\n]+\nholdfast: Nothing was run: there is no session [^\n]+\n$/);
	assert.deepEqual(stand.sessions(), []);
	stand.assertUntouched();
});

test("what does not go is refused in one sentence, and leaves nothing", { skip: rest }, (t) => {
	const stand = new Stand(t, "user");
	const refused = (code: number, ...args: readonly string[]) => {
		const ran = stand.holdfast("run", ...args);
		assert.deepEqual([ran.status, ran.stdout], [code, ""], `${args.join(" ")}: ${ran.stderr}`);
		return ran.stderr;
	};
	const { HOME } = stand.options.env;
	assert.match(refused(1, "--dir", "/", "--", "true"), /^holdfast: Cannot have a copy of \/: [^\n]+\n$/);
	assert.match(refused(1, "--dir", HOME, "--", "true"), /^holdfast: Cannot have a copy of [^\n]+ --state-dir\.\n$/);
	assert.match(refused(1, "--dir", "none", "--", "true"), /^holdfast: Cannot use none: [^\n]+\n$/);
	assert.match(refused(1, "--dir", "file", "--", "true"), /it is not a directory\.\n$/);
	for (const other of ["src", ".", "../a project"]) assert.match(refused(2, "--dir", ".", "--dir", other, "--", "true"), /once\.\n$/);
	assert.match(refused(2, "--allow", "src", "--", "true"), /where changes are kept apart\.\n$/);
	assert.match(refused(2, "--hide", "..", "--", "true"), /would hide the copy/);
	assert.match(refused(2, "--session", "../x", "--", "true"), /A set's name/);
	assert.match(refused(2, "--on-exit", "never", "--", "true"), /ask, keep, apply, discard/);
	assert.match(refused(1, "--drop", "none"), /There is no session none/);
	assert.match(refused(2, "--json"), /--list only/);
	assert.deepEqual(stand.sessions(), []);
	stand.assertUntouched();
});
