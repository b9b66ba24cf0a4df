/** A person clones the repository and types what the README says. */

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { needs, repository } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { runVm } from "../support/virtual-machine.ts";

const DEFAULT_PORT = 20490;

function clone(made: Scratch): string {
	const to = join(made.path, "clone of holdfast");
	execFileSync("git", ["clone", "--quiet", "--no-hardlinks", repository, to], { stdio: "pipe" });
	return to;
}

/** The commands of the section "From a clone", in the first fenced block. */
function readmeCommands(clonePath: string): string[] {
	const section = readFileSync(join(clonePath, "README.md"), "utf8").split("### From a clone")[1] ?? "";
	const block = /```sh\n([\s\S]*?)```/.exec(section)?.[1] ?? "";
	return block.split("\n").filter((line) => line !== "");
}

function portIsFree(port: number): Promise<boolean> {
	return new Promise((resolve) => {
		const probe = createConnection({ host: "127.0.0.1", port });
		probe.on("connect", () => {
			probe.destroy();
			resolve(false);
		});
		probe.on("error", () => resolve(true));
	});
}

test("both commands of the README work in a fresh clone", { skip: needs("root", "git", "vm") }, async (t) => {
	const made = scratch(t);
	const cloned = clone(made);
	const commands = readmeCommands(cloned);
	assert.equal(commands.length, 2, `the README has two commands: ${commands.join("; ")}`);
	const [serve, mount] = commands as [string, string];
	assert.match(serve, /^sudo \.\/holdfast serve \/srv\/golden$/);
	assert.match(mount, new RegExp(`^sudo mount -t nfs .*port=${DEFAULT_PORT}.* 127\\.0\\.0\\.1:/ /mnt$`));

	const golden = plant(made.folder("golden"), { "etc/motd": "welcome\n" });
	const free = await portIsFree(DEFAULT_PORT);
	// the network of the virtual machine changes the ports of its client
	const typed = `exec ${serve.replace(/^sudo /, "").replace("/srv/golden", golden)} --insecure --state-dir ${made.folder("state")}${free ? "" : " --listen 127.0.0.1:0"}`;
	const started = Date.now();
	const child = spawn("sh", ["-c", typed], {
		cwd: cloned,
		stdio: ["ignore", "pipe", "pipe"],
		env: { PATH: process.env.PATH, HOME: made.folder("home"), npm_config_cache: npmCache() },
	});
	const ended = new Promise<number | null>((resolve) => child.on("close", (code) => resolve(code)));
	made.beforeRemoval(() => {
		child.kill("SIGKILL");
		return ended;
	});
	let stdout = "";
	let stderr = "";
	child.stderr.on("data", (chunk) => {
		stderr += chunk;
	});
	const ready = new Promise<string>((resolve) => {
		child.stdout.on("data", (chunk) => {
			stdout += chunk;
			const line = /^ready.*\n/m.exec(stdout)?.[0];
			if (line) resolve(line);
		});
	});
	const outcome = await Promise.race([ready, ended]);
	assert.equal(typeof outcome, "string", `it ended with ${outcome}: ${stderr}`);
	t.diagnostic(`ready ${((Date.now() - started) / 1000).toFixed(1)} s after the first command`);
	assert.ok(stdout.startsWith("ready"), `progress goes to stderr alone, not to stdout: ${stdout}`);
	assert.match(stderr, /installing packages/);
	assert.match(stderr, /compiling/);
	const port = Number(/:(\d+)/.exec(outcome as string)?.[1]);
	if (free) assert.equal(port, DEFAULT_PORT);

	const command = mount
		.replace(/^sudo /, "")
		.replace("127.0.0.1:/", "$VM_HOST:/")
		.replaceAll(`=${DEFAULT_PORT}`, `=${port}`);
	const vm = await runVm(made, "readme-mount.sh", { env: { MOUNT_COMMAND: command } });
	assert.equal(vm.output, "welcome\nchanged\ndone\n", vm.output + stderr);
	assert.equal(vm.status, 0);
	assert.equal(readFileSync(join(golden, "etc/motd"), "utf8"), "welcome\n", "the golden tree is as it was");

	// The pid of the command is the server's own, so that service managers and Ctrl-C reach it.
	child.kill("SIGTERM");
	assert.equal(await ended, 0, `exit status after SIGTERM: ${stderr}`);
});

test("the launcher: through a symlink, from anywhere, again without work, and two at once", {
	skip: needs("git"),
}, async (t) => {
	const made = scratch(t);
	const cloned = clone(made);
	const env = {
		PATH: process.env.PATH,
		HOME: made.folder("home"),
		npm_config_cache: npmCache(),
		// what would keep npm from installing a compiler, or from letting packages run scripts
		NODE_ENV: "production",
		npm_config_omit: "dev",
		npm_config_ignore_scripts: "true",
	};
	const link = join(made.folder("bin"), "holdfast");
	symlinkSync(join(cloned, "holdfast"), link);
	const launch = () =>
		new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
			const child = spawn(link, ["--version"], { cwd: made.path, env });
			let [stdout, stderr] = ["", ""];
			child.stdout.on("data", (chunk) => {
				stdout += chunk;
			});
			child.stderr.on("data", (chunk) => {
				stderr += chunk;
			});
			child.on("close", (code) => resolve({ code, stdout, stderr }));
		});
	const version = JSON.parse(readFileSync(join(cloned, "package.json"), "utf8")).version;

	const both = await Promise.all([launch(), launch(), launch()]);
	for (const { code, stdout, stderr } of both) assert.deepEqual([code, stdout.trim()], [0, version], stderr);
	assert.equal(both.filter(({ stderr }) => /installing packages/.test(stderr)).length, 1, "one of them installs");
	assert.equal(both.filter(({ stderr }) => /compiling/.test(stderr)).length, 1, "one of them compiles");

	const again = await launch();
	assert.deepEqual([again.code, again.stderr], [0, ""], "nothing to do: nothing said");

	const late = new Date(Date.now() + 60_000);
	const source = join(cloned, "src/cli/main.ts");
	writeFileSync(source, `${readFileSync(source, "utf8")}export const changed = 1;\n`);
	utimesSync(source, late, late);
	assert.match((await launch()).stderr, /compiling/, "a changed source");
	assert.match(readFileSync(join(cloned, "dist/src/cli/main.js"), "utf8"), /changed = 1/);

	rmSync(join(cloned, "dist/src"), { recursive: true });
	utimesSync(source, new Date(0), new Date(0));
	const rebuilt = await launch();
	assert.equal(rebuilt.code, 0, rebuilt.stderr);
	assert.ok(existsSync(join(cloned, "dist/src/cli/main.js")), "output that was removed is made again");

	writeFileSync(source, "const wrong: number = 'text';\n");
	utimesSync(source, late, late);
	const broken = await launch();
	assert.notEqual(broken.code, 0, "sources that do not compile");
	assert.equal(broken.stdout, "");
	assert.match(broken.stderr, /error TS2322/);
});

/** Packages come from the cache of whoever runs the tests where it has them. */
function npmCache(): string {
	const known = spawnSync("npm", ["config", "get", "cache"], { encoding: "utf8" }).stdout.trim();
	return known === "" ? join(process.env.HOME ?? "/tmp", ".npm") : known;
}
