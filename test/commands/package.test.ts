// The package: npm packs it, npm and npx install it into an empty prefix without a network, and it serves, as root and as an ordinary user.
// A registry of this test's own has what lies in node_modules.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, chownSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { PATH, pack, registry } from "../support/package-registry.ts";
import { needs, repository } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { NOBODY, ServerProcess } from "../support/server-process.ts";

const UNPACKED_BYTES_MAX = 2_000_000;

/** A user's own folder, with an npm that knows that registry alone. */
function userOf(made: Scratch, uid: number, registryAddress: string, ignoreScripts: boolean) {
	const home = made.folder(`home-${uid}`);
	chmodSync(home, 0o700);
	chownSync(home, uid, uid);
	const prefix = join(home, "prefix");
	const env = {
		PATH,
		HOME: home,
		npm_config_prefix: prefix,
		npm_config_registry: registryAddress,
		npm_config_cache: join(home, "cache"),
		npm_config_ignore_scripts: String(ignoreScripts),
		npm_config_update_notifier: "false",
		NODE_ENV: "production",
	};
	/** What a command prints; it must succeed. Not in one go with this process, which is the registry. */
	const run = (command: string, ...given: string[]) =>
		new Promise<string>((resolve, reject) => {
			const child = spawn(command, given, { cwd: home, env, uid, gid: uid, stdio: ["ignore", "pipe", "pipe"] });
			let [stdout, stderr] = ["", ""];
			child.stdout.on("data", (chunk) => (stdout += chunk));
			child.stderr.on("data", (chunk) => (stderr += chunk));
			child.on("error", reject);
			child.on("close", (code) => (code === 0 ? resolve(stdout) : reject(new Error(`${command} ended with ${code}: ${stderr}`))));
		});
	return { uid, home, prefix, run };
}

const skip = needs("root", "npm", "tar");

test("the package has what it needs and no more, below 2 MB", { skip }, (t) => {
	const { files, unpackedSize } = pack(scratch(t));
	const names = files.map(({ path }) => path);
	for (const path of [
		"holdfast",
		"dist/holdfast.js",
		"dist/bundled/mounting/mount-inside.js",
		"dist/bundled/mounting/sandbox-inside.js",
		"dist/bundled/overlay/threads/offload-worker.js",
		"README.md",
		"LICENSE",
		"dist/man/holdfast-serve.1",
	]) {
		assert.ok(names.includes(path), path);
	}
	assert.deepEqual(
		names.filter((path) => /^(src|test|scripts|node_modules|bench|dist\/(src|test))\//.test(path)),
		[],
	);
	assert.equal((files.find(({ path }) => path === "holdfast")?.mode ?? 0) & 0o111, 0o111);
	assert.ok(unpackedSize < UNPACKED_BYTES_MAX, `${unpackedSize}`);
});

test("npm installs the package into an empty prefix, and what it installs serves: as root, as an ordinary user, without scripts", {
	skip,
}, async (t) => {
	const made = scratch(t);
	chmodSync(made.path, 0o755);
	const archive = join(made.path, pack(made).filename);
	chmodSync(archive, 0o644);
	const address = await registry(t, made);
	const { version } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8"));
	for (const user of [userOf(made, 0, address, false), userOf(made, NOBODY, address, true)]) {
		const { uid, home, prefix, run } = user;
		await run("npm", "install", "--global", archive);
		const program = join(prefix, "bin/holdfast");
		assert.equal(await run(program, "--version"), `${version}\n`);
		assert.match(readFileSync(join(prefix, "share/man/man1/holdfast-serve.1"), "utf8"), /^\.TH HOLDFAST\\-SERVE 1/m);
		const lower = plant(join(home, "lower"), { file: "of the lower\n" });
		if (uid !== 0) for (const path of [lower, join(lower, "file")]) chownSync(path, uid, uid);
		const server = new ServerProcess({
			lowers: [lower],
			upper: join(home, "upper"),
			launcher: program,
			args: ["--state-dir", join(home, "state")],
			env: { PATH, HOME: home },
			...(uid === 0 ? {} : { user: { uid, gid: uid, main: program } }),
		});
		made.beforeRemoval(() => server.kill());
		await server.start();
		const client = await server.client({ uid, gid: uid });
		const root = await client.root();
		const file = await client.walk(root, "file");
		// a copy up, which is a worker thread's
		await client.writeFile(file, "changed\n", 13n);
		assert.equal((await client.readFile(file)).toString(), "of the lower\nchanged\n");
		await client.createFile(root, "new", "made");
		client.close();
		await server.restart();
		const again = await server.client({ uid, gid: uid });
		assert.equal((await again.readFile(file)).toString(), "of the lower\nchanged\n", "the handle holds");
		again.close();
		await server.terminate();
		assert.equal(server.stderr, "");
		assert.equal(readFileSync(join(lower, "file"), "utf8"), "of the lower\n");
	}
});

test("npx runs the package without installing it", { skip }, async (t) => {
	const made = scratch(t);
	chmodSync(made.path, 0o755);
	const archive = join(made.path, pack(made).filename);
	const { run } = userOf(made, NOBODY, await registry(t, made), true);
	assert.match(await run("npx", "--yes", `--package=${archive}`, "holdfast", "serve", "--help"), /^Usage: holdfast serve/);
});

/** What the unit lets the program do, as options of setpriv. */
function boundsOf(unit: string): string[] {
	const kept = /^CapabilityBoundingSet=(.*)$/m.exec(unit)?.[1]?.split(" ") ?? [];
	assert.ok(kept.length > 5);
	return [
		"setpriv",
		"--no-new-privs",
		`--bounding-set=-all,${kept.map((name) => `+${name.slice("CAP_".length).toLowerCase()}`).join(",")}`,
		"--",
	];
}

test("the Debian package is root's, and its program serves with kernel handles within the bounds of its unit", {
	skip: needs("root", "dpkg-deb", "setpriv"),
}, async (t) => {
	const made = scratch(t);
	const printed = execFileSync(join(repository, "scripts/deb.sh"), [made.path], { encoding: "utf8", env: { ...process.env, PATH } });
	const archive = /'([^']+\.deb)'/.exec(printed)?.[1] as string;
	assert.match(execFileSync("dpkg-deb", ["--field", archive, "Depends"], { encoding: "utf8" }), /^nodejs \(>= 20\.19\)/);
	const listed = execFileSync("dpkg-deb", ["--contents", archive], { encoding: "utf8" }).trim().split("\n");
	for (const line of listed) assert.match(line, /^[-dlrwx]{10} root\/root /, line);
	const tree = made.folder("tree");
	execFileSync("dpkg-deb", ["--extract", archive, tree]);
	for (const path of ["man/man1/holdfast-serve.1.gz", "bash-completion/completions/holdfast", "zsh/vendor-completions/_holdfast"])
		assert.ok(existsSync(join(tree, "usr/share", path)), path);
	const lower = plant(made.folder("lower"), { file: "of the lower\n" });
	const server = new ServerProcess({
		lowers: [lower],
		upper: join(made.path, "upper"),
		launcher: join(tree, "usr/bin/holdfast"),
		within: boundsOf(readFileSync(join(tree, "lib/systemd/system/holdfast@.service"), "utf8")),
		args: ["--handles", "kernel", "--state-dir", made.folder("state")],
		env: { PATH },
	});
	made.beforeRemoval(() => server.kill());
	await server.start();
	const client = await server.client({ uid: 0, gid: 0 });
	const root = await client.root();
	await client.writeFile(await client.walk(root, "file"), "changed\n", 13n);
	const own = await client.createFile(root, "own", "x");
	await client.setattr(own, { uid: NOBODY, gid: NOBODY, mode: 0o4755 });
	const { uid, mode } = await client.attributesOf(own);
	assert.deepEqual([uid, mode & 0o7777], [NOBODY, 0o4755]);
	assert.equal((await client.remove(root, "file")).status, 0, "a whiteout");
	client.close();
	await server.terminate();
	assert.equal(readFileSync(join(lower, "file"), "utf8"), "of the lower\n");
});
