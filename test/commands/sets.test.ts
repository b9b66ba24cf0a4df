/** Sets of changes: the same one is found whatever the environment says, no other one is taken for it, and none is made unasked. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
	chmodSync,
	chownSync,
	copyFileSync,
	cpSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	renameSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { needs, onlyInAll } from "../support/requirements.ts";
import { cannotMount, type Scratch, scratch } from "../support/scratch.ts";
import { ordinaryUser, ServerProcess } from "../support/server-process.ts";
import { atTerminal, RUN_MILLISECONDS } from "../support/terminal.ts";

const skip = needs("root", "unshare", "setpriv");
const skipInSample = skip || onlyInAll;
const USER = 4242;
const AS_USER = ["--reuid", `${USER}`, "--regid", `${USER}`, "--clear-groups"];

type Env = Readonly<Record<string, string>>;

/** Who runs a program, and where: options of setpriv and all of the environment but PATH. */
interface Way {
	readonly env?: Env;
	readonly privileges?: readonly string[];
}

/** A machine with a /var/lib, users and homes of its own. */
class Machine {
	readonly made: Scratch;
	readonly varLib: string;
	readonly rootHome: string;
	readonly home: string;
	readonly #passwd: string;
	readonly #program: string;

	constructor(t: TestContext) {
		this.made = scratch(t);
		const { main } = ordinaryUser(this.made);
		this.varLib = this.made.folder("var-lib");
		this.rootHome = this.made.folder("root-home");
		this.home = this.made.folder("home");
		chownSync(this.home, USER, USER);
		const users = [`root:x:0:0::${this.rootHome}:/bin/sh`, `casey:x:${USER}:${USER}::${this.home}:/bin/sh`];
		this.#passwd = this.made.file("passwd", `${users.join("\n")}\n`);
		this.#program = this.made.file("holdfast", `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
		chmodSync(this.#program, 0o755);
	}

	/** A tree that a user owns. */
	tree(name: string, uid = 0): string {
		const path = plant(this.made.folder(name), { "a/file": `of ${name}\n`, b: "b\n" });
		execFileSync("chown", ["-R", `${uid}:${uid}`, path]);
		return path;
	}

	#within({ env = {}, privileges = [] }: Way): string[] {
		const script = 'mount --bind "$0" /var/lib && mount --bind "$1" /etc/passwd && shift && exec "$@"';
		const as = privileges.length === 0 ? [] : ["setpriv", ...privileges, "--"];
		const variables = Object.entries({ PATH: process.env.PATH, ...env }).map(([name, value]) => `${name}=${value}`);
		const alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, this.varLib, this.#passwd];
		return [...alone, ...as, "env", "-i", ...variables];
	}

	run(args: readonly string[], way: Way = {}): { code: number | null; stdout: string; stderr: string } {
		const [command, ...rest] = [...this.#within(way), this.#program, ...args] as [string, ...string[]];
		const { status, stdout, stderr } = spawnSync(command, rest, { encoding: "utf8", timeout: RUN_MILLISECONDS, cwd: "/" });
		return { code: status, stdout, stderr };
	}

	/** What it says to somebody who gives that answer. */
	atTerminal(args: readonly string[], answer: string): string {
		return atTerminal([...this.#within({}), this.#program, ...args], answer);
	}

	server(args: readonly string[], way: Way = {}): ServerProcess {
		const server = new ServerProcess({ args, within: this.#within(way), launcher: this.#program });
		this.made.beforeRemoval(() => server.kill());
		return server;
	}

	/** What `ready` says, and what is in the root of the tree then, before `name` is made there. Stopped in order. */
	async serve(args: readonly string[], way: Way = {}, name?: string): Promise<{ names: string[]; set: string; stderr: string }> {
		const server = this.server(args, way);
		await server.start();
		const client = await server.client();
		const root = await client.root();
		const names = (await client.list(root)).map((entry) => entry.name).filter((one) => one !== "." && one !== "..");
		if (name !== undefined) await client.createFile(root, name, `${name}\n`);
		client.close();
		await server.terminate();
		// the second line may come in another piece than that which begins with "ready"
		return { names: names.sort(), set: /^Set of changes: (.*)$/m.exec(server.stdout)?.[1] ?? "", stderr: server.stderr };
	}

	/** Refused, and no set more than before. */
	refused(args: readonly string[], way: Way = {}): string {
		const before = this.sets(way);
		const { code, stdout, stderr } = this.run(["serve", ...args, "--listen", "127.0.0.1:0"], way);
		assert.equal(code, 1, `it should refuse ${args.join(" ")}: ${stdout}${stderr}`);
		assert.doesNotMatch(stdout, /^ready/m);
		assert.deepEqual(this.sets(way), before);
		return stderr;
	}

	/** The names of all sets, with their trees. */
	sets(way: Way = {}): Record<string, string | null> {
		const { code, stdout, stderr } = this.run(["list", "--json"], way);
		assert.equal(code, 0, stderr);
		const { sets } = JSON.parse(stdout) as { sets: { name: string; tree: string | null }[] };
		return Object.fromEntries(sets.map(({ name, tree }) => [name, tree]));
	}
}

test("a set has a name, is listed, found again, and removed when that is asked for", { skip }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	const first = await machine.serve([golden], {}, "made");
	assert.deepEqual([first.set, first.stderr], ["golden, new and empty", ""]);
	const folder = join(machine.varLib, "holdfast/changes/golden");
	for (const path of [join(machine.varLib, "holdfast"), join(machine.varLib, "holdfast/changes"), folder]) {
		assert.equal(statSync(path).mode & 0o777, 0o700, path);
	}
	assert.match(readFileSync(join(folder, "README.txt"), "utf8"), /plain copies mislead[\s\S]*holdfast serve \S*golden --name golden/);
	const again = await machine.serve(["golden"]);
	assert.deepEqual([again.set, again.names, again.stderr], ["golden", ["a", "b", "made"], ""]);

	const server = machine.server([golden]);
	await server.start();
	assert.match(machine.run(["list"]).stdout, new RegExp(`^golden +\\S+ [KM]iB +in service +kernel +${golden}$`, "m"));
	assert.match(machine.run(["remove", "golden", "--yes"]).stderr, /in service/);
	await server.terminate();

	const listed = JSON.parse(machine.run(["list", "--json"]).stdout).sets[0];
	const { name, tree, inService, handles, treeIs, bytes } = listed;
	assert.deepEqual([name, tree, inService, handles, treeIs], ["golden", golden, false, "kernel", "there"]);
	assert.ok(bytes > 0 && !Number.isNaN(Date.parse(listed.served)));
	assert.match(machine.run(["remove", "golden", "--dry-run"]).stdout, /^would remove the set golden, with all changes to \S*golden, in/);
	const unasked = machine.run(["remove", "golden"]);
	assert.deepEqual([unasked.code, existsSync(folder)], [1, true]);
	assert.match(unasked.stderr, /--yes/);
	assert.equal(machine.run(["remove", "golden", "--yes"]).code, 0);
	assert.deepEqual(readdirSync(join(machine.varLib, "holdfast/changes")), [".lock"]);
	assert.deepEqual(readdirSync(golden), ["a", "b"], "the tree stays");
	assert.match(machine.run(["remove", "golden", "--yes"]).stderr, /There is no set golden/);
});

const ENVIRONMENTS: Readonly<Record<string, (machine: Machine) => Way>> = {
	"HOME is unset": () => ({}),
	"HOME is root's": ({ rootHome }) => ({ env: { HOME: rootHome } }),
	"sudo with -E: HOME and XDG_STATE_HOME are another's": ({ home }) => ({
		env: { HOME: home, XDG_STATE_HOME: join(home, "state"), SUDO_UID: `${USER}` },
	}),
	"sudo without -E": ({ rootHome }) => ({ env: { HOME: rootHome, SUDO_UID: `${USER}`, LOGNAME: "root" } }),
	cron: ({ rootHome }) => ({ env: { HOME: rootHome, LOGNAME: "root", SHELL: "/bin/sh" } }),
	systemd: () => ({ env: { LANG: "C", INVOCATION_ID: "0", STATE_DIRECTORY: "/var/lib/holdfast" } }),
};

for (const [environment, way] of Object.entries(ENVIRONMENTS)) {
	test(`root finds the same set: ${environment}`, { skip: skipInSample }, async (t) => {
		const machine = new Machine(t);
		const golden = machine.tree("golden");
		await machine.serve([golden], { env: { HOME: machine.rootHome } }, "made");
		const { names, set } = await machine.serve([golden], way(machine));
		assert.deepEqual([names, set], [["a", "b", "made"], "golden"]);
	});
}

test("root with fewer capabilities, as in a container, gets the same set or a sentence", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	const fewer = { privileges: ["--bounding-set", "-sys_admin,-dac_read_search"] };
	await machine.serve([golden], {}, "made");
	assert.match(machine.refused([golden], fewer), /kernel handles.*rebind/);
	assert.equal(machine.run(["rebind", golden]).code, 0);
	const { names, set } = await machine.serve([golden], fewer).catch((error: Error) => ({ names: [], set: error.message }));
	// marks of root's overlay are hidden from it, which is a sentence too
	if (names.length > 0) assert.deepEqual([names, set], [["a", "b", "made"], "golden"]);
	else assert.match(set, /trusted|CAP_SYS_ADMIN|root/);
	// made with fewer: found with all of them
	const silver = machine.tree("silver");
	await machine.serve([silver], fewer, "made");
	const full = await machine.serve([silver]);
	assert.deepEqual([full.names, full.set], [["a", "b", "made"], "silver"]);
});

test("an ordinary user finds the same set by HOME, without it, and with another's", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const project = machine.tree("project", USER);
	const as = (env: Env): Way => ({ env, privileges: AS_USER });
	await machine.serve([project], as({ HOME: machine.home }), "made");
	assert.ok(existsSync(join(machine.home, ".local/state/holdfast/changes/project/upper/made")));
	for (const env of [{}, { HOME: machine.rootHome }, { HOME: "/nonexistent" }, { XDG_STATE_HOME: machine.rootHome }] as Env[]) {
		const { names, set } = await machine.serve([project], as(env));
		assert.deepEqual([names, set], [["a", "b", "made"], "project"], JSON.stringify(env));
	}
});

test("user 0 of an ordinary user's namespace has that user's sets", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const project = machine.tree("project", USER);
	const env = { HOME: machine.home };
	await machine.serve([project], { env, privileges: AS_USER }, "made");
	const inside = [...AS_USER, "--", "unshare", "--user", "--map-root-user"];
	for (const given of [env, {}]) {
		const { names, set } = await machine.serve([project, "--allow-other"], { env: given, privileges: inside });
		assert.deepEqual([names, set], [["a", "b", "made"], "project"], JSON.stringify(given));
	}
});

test("a set that was made with XDG_STATE_HOME is found without it, and the other way round", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const xdg = join(machine.home, "xdg");
	const as = (env: Env): Way => ({ env: { HOME: machine.home, ...env }, privileges: AS_USER });
	const project = machine.tree("project", USER);
	await machine.serve([project], as({ XDG_STATE_HOME: xdg }), "made");
	const without = await machine.serve([project], as({}));
	assert.deepEqual(without.names, ["a", "b", "made"]);
	assert.match(without.stderr, /xdg\/holdfast, where they were made/);
	const other = machine.tree("other", USER);
	await machine.serve([other], as({}), "made");
	assert.deepEqual((await machine.serve([other], as({ XDG_STATE_HOME: xdg }))).names, ["a", "b", "made"]);
});

test("root makes no empty set where the user who owns the tree has one, and says whose it is", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const project = machine.tree("project", USER);
	await machine.serve([project], { privileges: AS_USER, env: { HOME: machine.home } }, "made");
	for (const env of [{ HOME: machine.home, SUDO_UID: `${USER}` }, {}]) {
		const said = machine.refused([project], { env });
		assert.match(said, /changes that are the user casey's/);
		assert.match(said, /sudo -u casey holdfast serve \S*project --name project$/m);
	}
	const roots = await machine.serve([project, "--name", "project", "--new"]);
	assert.deepEqual([roots.names, roots.set], [["a", "b"], "project, new and empty"]);
	// and the user is told that root has changes that only root can list
	const other = machine.tree("other", USER);
	const users = await machine.serve([other], { privileges: AS_USER, env: { HOME: machine.home } });
	assert.match(users.stderr, /sudo holdfast list/);
});

test("a tree that was renamed keeps its set, and it is said", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden], {}, "made");
	const moved = join(machine.made.path, "silver");
	renameSync(golden, moved);
	assert.equal(machine.run(["release", "--dry-run", moved]).stderr.match(/was at/g)?.length, 1, "it is said once");
	const { names, set, stderr } = await machine.serve([moved]);
	assert.deepEqual([names, set], [["a", "b", "made"], "golden"]);
	assert.match(stderr, /silver was at \S*golden when set golden was served last/);
	assert.equal((await machine.serve([moved])).stderr, "");
	assert.deepEqual(machine.sets(), { golden: moved });
});

test("another tree at the path of a set is refused, with the commands, and no empty set is made", { skip }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden], {}, "made");
	renameSync(golden, join(machine.made.path, "former"));
	machine.tree("golden");
	const said = machine.refused([golden]);
	assert.match(said, /is another directory than the tree that set golden was served with last/);
	assert.match(said, /^holdfast: To begin an empty set: holdfast serve \S*golden --name golden-2 --new$/m);
	const empty = await machine.serve([golden, "--name", "golden-2", "--new"]);
	assert.deepEqual([empty.names, empty.set], [["a", "b"], "golden-2, new and empty"]);
	assert.equal((await machine.serve([golden])).set, "golden-2");
	assert.equal((await machine.serve([join(machine.made.path, "former")])).set, "golden", "its own tree still has its set");
});

test("two trees that changed their places are not taken for one another", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const [one, two] = [machine.tree("one"), machine.tree("two")];
	await machine.serve([one], {}, "in-one");
	await machine.serve([two], {}, "in-two");
	renameSync(one, `${one}.aside`);
	renameSync(two, one);
	renameSync(`${one}.aside`, two);
	assert.match(machine.refused([one]), /is the tree of set two.*and at \S*one was the tree of set one/);
	assert.deepEqual((await machine.serve([one, "--name", "two"])).names, ["a", "b", "in-two"]);
});

test("a copy of a tree gets a set of its own, and the likeness is told; with portable handles the set goes on over the copy", {
	skip: skipInSample,
}, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden, "--handles", "portable"], {}, "made");
	const copy = join(machine.made.path, "copy");
	cpSync(golden, copy, { recursive: true, preserveTimestamps: true });
	const own = await machine.serve([copy]);
	assert.deepEqual([own.names, own.set], [["a", "b"], "copy, new and empty"]);
	assert.match(
		own.stderr,
		/has the same names as \S*golden, whose changes are in set golden.* over the copy: holdfast serve \S*copy --name golden$/m,
	);
	rmSync(golden, { recursive: true });
	assert.match(
		machine.refused(["golden"]),
		/^holdfast: The tree of the set golden is not there: \S*golden\.\n.*holdfast serve THAT_DIRECTORY --name golden\n$/,
	);
	const further = await machine.serve([copy, "--name", "golden"]);
	assert.deepEqual(further.names, ["a", "b", "made"]);
	assert.match(further.stderr, /is not the tree of set golden/);
	// at the same path: the layers' own checks say whether it is a copy
	rmSync(copy, { recursive: true });
	machine.tree("copy");
	assert.deepEqual((await machine.serve([copy, "--name", "golden"])).names, ["a", "b", "made"]);
	// another image, whose root has other names
	writeFileSync(join(machine.tree("other"), "c"), "c");
	const said = machine.refused([join(machine.made.path, "other"), "--name", "golden"]);
	assert.match(said, /no copy of that: the names in its root are others/);
	assert.match(said, /^holdfast: {3}To put this tree under it, as a new image: holdfast rebase --lower \S*other --name golden$/m);
});

test("of a set with kernel handles it is told, before the tree is gone, what lets it go on over a copy", {
	skip: skipInSample,
}, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden], {}, "made");
	const copy = join(machine.made.path, "copy");
	cpSync(golden, copy, { recursive: true, preserveTimestamps: true });
	assert.match(
		(await machine.serve([copy])).stderr,
		/do not go on over a copy unless, while \S*golden is there, .*: holdfast rebind --name golden$/m,
	);
	rmSync(golden, { recursive: true });
	machine.tree("golden");
	const said = machine.refused([golden]);
	assert.match(said, /its own tree lies elsewhere now: holdfast serve THAT_DIRECTORY --name golden$/m);
	assert.doesNotMatch(said, /holdfast rebind/, "its own tree is not there");
});

test("a tree on another mount has the same set, and so has one reached by a symbolic link", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden], {}, "made");
	const bound = machine.made.folder("bound");
	execFileSync("mount", ["--bind", golden, bound]);
	machine.made.beforeRemoval(() => execFileSync("umount", [bound]));
	const { names, stderr } = await machine.serve([bound]);
	assert.deepEqual(names, ["a", "b", "made"]);
	assert.match(stderr, /is the same directory as \S*golden/);
	const link = join(machine.made.path, "link");
	symlinkSync(golden, link);
	const linked = await machine.serve([link]);
	assert.deepEqual([linked.names, linked.stderr], [["a", "b", "made"], /same directory/.exec(linked.stderr) ? linked.stderr : ""]);
});

test("a disk that is mounted elsewhere has the same set; its clone beside it is refused", {
	skip: skipInSample || cannotMount("ext4"),
}, async (t) => {
	const machine = new Machine(t);
	const { made } = machine;
	const disk = made.mount("ext4", "disk", 64);
	plant(made.folder("disk/golden"), { a: "a", b: "b" });
	await machine.serve([join(disk, "golden")], {}, "made");
	made.unmount(disk);
	renameSync(join(made.path, "disk.img"), join(made.path, "elsewhere.img"));
	const elsewhere = made.mountImage("elsewhere");
	const { names, stderr } = await machine.serve([join(elsewhere, "golden")]);
	assert.deepEqual(names, ["a", "b", "made"]);
	assert.match(stderr, /was at \S*disk\/golden/);
	made.unmount(elsewhere);
	copyFileSync(join(made.path, "elsewhere.img"), join(made.path, "clone.img"));
	made.mountImage("elsewhere");
	const clone = made.mountImage("clone");
	assert.match(machine.refused([join(clone, "golden")]), /are clones of one file system, and set golden belongs to/);
});

test("a typing error in --name makes no set", { skip }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	const first = await machine.serve([golden, "--name", "work"], {}, "made");
	assert.equal(first.set, "work, new and empty", "the first one needs no --new");
	assert.match(machine.refused([golden, "--name", "wrok"]), /There is no set wrok, and \S*golden has set work/);
	assert.match(machine.refused(["wrok"]), /There is no set wrok, and no directory of that name/);
	assert.equal(machine.run(["serve", golden, "--name", "../work"]).code, 2);
	assert.equal(machine.run(["serve", golden, "--new"]).code, 2);
	const second = await machine.serve([golden, "--name", "trial", "--new"]);
	assert.equal(second.set, "trial, new and empty");
	assert.equal((await machine.serve([golden, "--name", "trial", "--new"])).set, "trial", "a service may say so at each start");
	assert.match(machine.refused([golden]), /has 2 sets of changes/);
	const other = machine.tree("other");
	assert.match(machine.refused([other, "--name", "work"]), /not the tree of set work/);
});

test("an ephemeral set goes with its server, also one that was killed", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	const changes = join(machine.varLib, "holdfast/changes");
	const ended = await machine.serve([golden, "--ephemeral"], {}, "made");
	assert.match(ended.set, /^golden-ephemeral, which goes/);
	assert.deepEqual(readdirSync(changes), [".lock"]);
	const killed = machine.server([golden, "--ephemeral"]);
	await killed.start();
	assert.deepEqual(Object.keys(machine.sets()), ["golden-ephemeral"], "while it is in service it stays");
	await killed.kill();
	assert.deepEqual(readdirSync(changes), [".lock", "golden-ephemeral"]);
	assert.deepEqual(machine.sets(), {});
	assert.deepEqual(readdirSync(changes), [".lock"]);
});

test("a set of an earlier version gets a name and goes on, where it lies", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden], {}, "made");
	// as it was: below root's home, in a folder named by a hash, without a record
	const now = join(machine.varLib, "holdfast/changes/golden");
	const former = join(machine.rootHome, ".local/state/holdfast/changes/0123456789abcdef01234567");
	mkdirSync(join(former, ".."), { recursive: true });
	renameSync(now, former);
	for (const name of ["set.json", "README.txt"]) rmSync(join(former, name));
	const hash = join(former, "..", hashOf(golden));
	renameSync(former, hash);
	// nothing was there to see: whose it is, is told by the hash, and by its registry
	const { names, set } = await machine.serve([golden]);
	assert.deepEqual([names, set], [["a", "b", "made"], "golden"]);
	assert.ok(existsSync(join(hash, "README.txt")));
	assert.deepEqual(machine.sets(), { golden });
	assert.equal(machine.run(["remove", "golden", "--yes"]).code, 0);
	assert.deepEqual([readdirSync(join(hash, "..")), readdirSync(join(now, ".."))], [[], [".lock"]]);
});

test("a set of an earlier version whose tree is gone is listed, and told of before an empty one is made", {
	skip: skipInSample,
}, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden], {}, "made");
	const now = join(machine.varLib, "holdfast/changes/golden");
	renameSync(now, join(machine.varLib, "holdfast/changes/0123456789abcdef01234567"));
	for (const name of ["set.json", "README.txt"]) rmSync(join(machine.varLib, "holdfast/changes/0123456789abcdef01234567", name));
	renameSync(golden, `${golden}.aside`);
	machine.tree("golden");
	const { set, stderr } = await machine.serve([golden]);
	assert.equal(set, "golden, new and empty");
	assert.match(stderr, /It is not known which trees set 0123456789abcdef01234567 belong to/);
	assert.deepEqual((await machine.serve([`${golden}.aside`])).names, ["a", "b", "made"]);
});

/** The name that the folder of changes of a tree had. */
function hashOf(tree: string): string {
	const script = `const {identityOf,formerNames}=await import(${JSON.stringify(new URL("../../src/sets/tree-identity.js", import.meta.url))});console.log(formerNames(identityOf(process.argv[1]))[0])`;
	return execFileSync(process.execPath, ["--input-type=module", "-e", script, tree], { encoding: "utf8" }).trim();
}

test("the keys of an export without upper go on from the state folder of an earlier version", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	const former = join(machine.rootHome, ".local/state/holdfast");
	const rootOf = async (...args: string[]): Promise<string> => {
		const server = machine.server(["--lower", golden, ...args]);
		await server.start();
		const client = await server.client();
		const handle = (await client.root()).toString("hex");
		client.close();
		await server.terminate();
		return handle;
	};
	const before = await rootOf("--state-dir", former);
	assert.equal(await rootOf(), before);
	assert.equal(machine.run(["key", "list", "--lower", golden]).code, 0);
	// and a set of that time is found by its tree
	await machine.serve([golden, "--state-dir", former], {}, "made");
	assert.deepEqual((await machine.serve([golden])).names, ["a", "b", "made"]);
	assert.deepEqual(machine.sets(), { golden });
});

test("a damaged record is told, and the set found by what else it knows", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden], {}, "made");
	const record = join(machine.varLib, "holdfast/changes/golden/set.json");
	writeFileSync(
		record,
		readFileSync(record, "utf8")
			.replace('"isDefault":true', '"isDefault":false')
			.replace(/"inode": "\d/, '"inode": "9'),
	);
	assert.match(machine.run(["list"]).stdout, /set\.json: it is damaged/);
	const { names, stderr } = await machine.serve([golden]);
	assert.deepEqual(names, ["a", "b", "made"]);
	assert.match(stderr, /it is damaged.*It is written anew/);
	assert.equal((await machine.serve([golden])).stderr, "");
});

test("commands take the name of a set in place of DIR", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden], {}, "made");
	for (const named of [[golden], ["golden"], ["--name", "golden"]]) {
		for (const command of [["check"], ["key", "list"], ["settle", "--dry-run"], ["release", "--dry-run"]]) {
			const { code, stderr } = machine.run([...command, ...named]);
			assert.deepEqual([code, stderr], [0, ""], [...command, ...named].join(" "));
		}
	}
	for (const command of ["check", "release", "settle", "rebind"]) {
		const { code, stderr } = machine.run([command, machine.tree("never-served")]);
		assert.notEqual(code, 0);
		assert.match(stderr, /There is no set of changes for/);
	}
	assert.deepEqual(machine.sets(), { golden });
});

test("at a terminal a removal, and a further set of an unknown name, are asked about", {
	skip: skipInSample || needs("script"),
}, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden], {}, "made");
	for (const args of [
		["remove", "golden"],
		["serve", golden, "--name", "glodne", "--listen", "127.0.0.1:0"],
	]) {
		const said = machine.atTerminal(args, "n\n");
		assert.match(said, /\[y\/N\]/);
		assert.match(said, /Nothing was done\./);
		assert.deepEqual(machine.sets(), { golden });
	}
	assert.match(machine.atTerminal(["remove", "golden"], "y\n"), /removed: golden/);
	assert.deepEqual(machine.sets(), {});
});

test("exports of one server have sets, by directory and by name", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const [one, two] = [machine.tree("one"), machine.tree("two")];
	const first = machine.server(["--export", `/one=${one}`, "--export", `/two=${two}`]);
	await first.start();
	await first.terminate();
	assert.deepEqual(machine.sets(), { one, two });
	const again = machine.server(["--export", "/one=one", "--export", "/two=two"]);
	await again.start();
	await again.terminate();
	assert.deepEqual(again.stdout.match(/^Set of changes: .*$/gm), ["Set of changes: one", "Set of changes: two"]);
	const together = machine.server(["--ephemeral", "--export", `/one=${one}`, "--export", `/two=${two}`]);
	await together.start();
	assert.equal(Object.keys(machine.sets()).length, 4);
	await together.terminate();
	assert.deepEqual(machine.sets(), { one, two });
});

test("of two first starts at once one serves the new set, and the other is refused", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	const servers = [machine.server([golden]), machine.server([golden])];
	const outcomes = await Promise.allSettled(servers.map((server) => server.start()));
	const started = outcomes.filter(({ status }) => status === "fulfilled");
	const refused = outcomes.filter((outcome) => outcome.status === "rejected");
	assert.equal(started.length, 1);
	assert.match(`${refused[0]?.reason}`, /is serving it/);
	assert.deepEqual(machine.sets(), { golden });
});

test("a copied set is another one after fork, and a rebased set belongs to its new tree", { skip: skipInSample }, async (t) => {
	const machine = new Machine(t);
	const golden = machine.tree("golden");
	await machine.serve([golden, "--handles", "portable"], {}, "made");
	const changes = join(machine.varLib, "holdfast/changes");
	execFileSync("cp", ["-a", join(changes, "golden"), join(changes, "copied")]);
	assert.match(machine.refused([golden]), /has 2 sets of changes/);
	const forked = machine.run(["fork", "--name", "copied"]);
	assert.deepEqual([forked.code, forked.stderr], [0, ""]);
	assert.deepEqual((await machine.serve([golden], {}, "more")).set, "golden");
	assert.deepEqual((await machine.serve(["copied"])).names, ["a", "b", "made"]);

	const image = join(machine.made.path, "image-b");
	cpSync(golden, image, { recursive: true, preserveTimestamps: true });
	writeFileSync(join(image, "b"), "changed\n");
	const rebased = machine.run(["rebase", "--name", "golden", "--lower", image]);
	assert.deepEqual([rebased.code, rebased.stderr], [0, ""]);
	const { names, set } = await machine.serve([image]);
	assert.deepEqual([names, set], [["a", "b", "made", "more"], "golden"]);
	assert.deepEqual(machine.sets(), { copied: golden, golden: image });
	const byUpper = machine.run(["rebase", "--upper", join(changes, "golden/upper"), "--lower", golden]);
	assert.deepEqual([byUpper.code, byUpper.stderr], [0, ""]);
	assert.deepEqual(machine.sets(), { copied: golden, golden });
	assert.deepEqual((await machine.serve([golden])).set, "golden");
	for (const wrong of [[], ["--name", "golden", "--upper", "/x"]]) {
		assert.equal(machine.run(["fork", ...wrong]).code, 2);
		assert.equal(machine.run(["rebase", "--lower", image, ...wrong]).code, 2);
	}
});
