// What the pages say is done, command by command and in order, in a machine of its own: by root and by an ordinary user.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { pack, registry } from "../support/package-registry.ts";
import { blocksOf, fits, type PageCommand } from "../support/page-blocks.ts";
import { needs, repository } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { quote } from "../support/terminal.ts";
import { runVm } from "../support/virtual-machine.ts";

const skip = needs("root", "npm", "vm");
const ORDINARY = 1000;

/** What a page takes for granted, before its first command. */
const SET_UPS: Readonly<Record<string, readonly string[]>> = {
	"README.md": [],
	"docs/operations.md": [
		"mkdir -p -m 700 /srv/mine && mkdir /srv/golden /srv/patches /srv/docs",
		"echo welcome | tee /srv/golden/motd /srv/patches/patch /srv/docs/page",
	],
	"docs/check.md": [
		"mkdir -p -m 700 /srv/mine && mkdir /srv/golden && echo welcome >/srv/golden/motd",
		"sudo holdfast serve /srv/golden &",
		"kill %1; wait %1",
		"sudo holdfast serve --lower /srv/golden --upper /srv/mine/upper --create &",
		"kill %1; wait %1",
	],
	"docs/unpack.md": ["mkdir base top && echo base >base/file && echo top >top/other"],
	"docs/changes.md": ["mkdir -p ~/project/src && echo welcome | tee ~/project/file ~/project/src/one"],
	"docs/portable.md": ["mkdir ~/project ~/image && echo welcome | tee ~/project/file ~/image/file"],
	"docs/troubleshooting.md": [
		"mkdir ~/golden && echo welcome >~/golden/motd",
		"holdfast serve ~/golden &",
		"sudo mount -t nfs -o vers=4.1,proto=tcp,port=20490,nosuid,nodev 127.0.0.1:/ /mnt",
	],
};

/** Pages whose commands are no user's. */
const DEVELOPMENT: Readonly<Record<string, string>> = {
	"docs/development.md": "its commands are the tests and the measurements themselves",
};

/** By whom each page is done. What is another user's in one is the ordinary user's in another. */
const USERS: readonly (readonly [page: string, who: string, uid: number])[] = [
	["README.md", "root", 0],
	["README.md", "an ordinary user", ORDINARY],
	["docs/operations.md", "root", 0],
	["docs/check.md", "root", 0],
	["docs/unpack.md", "an ordinary user", ORDINARY],
	["docs/changes.md", "an ordinary user", ORDINARY],
	["docs/portable.md", "an ordinary user", ORDINARY],
	["docs/troubleshooting.md", "an ordinary user", ORDINARY],
];

interface Outcome extends PageCommand {
	readonly status: number | null;
	readonly printed: readonly string[];
}

async function outcomes(t: TestContext, page: string, uid: number): Promise<Outcome[]> {
	const made = scratch(t);
	const { commands, notRun } = blocksOf(page);
	for (const { where, reason } of notRun) t.diagnostic(`${where} is not run here: ${reason}`);
	// the README installs the package itself
	const install = page === "README.md" ? [] : ["sudo npm install --global ./holdfast-*.tgz"];
	const before = [...install, ...(SET_UPS[page] ?? [])].map((command, i) => ({ where: `${page}:set-up:${i}`, command, expected: null }));
	const all = [...before, ...commands];
	const steps = made.file("steps.sh", "");
	writeFileSync(steps, all.map(({ where, command }) => `step ${where} ${quote(command)}\n`).join(""));
	const vm = await runVm(made, "run-blocks.sh", {
		env: {
			ARCHIVE: join(made.path, pack(made).filename),
			STEPS: steps,
			USER_ID: String(uid),
			SUDO: join(repository, "test/vm/sudo-of-machine.sh"),
			npm_config_registry: await registry(t, made, "10.0.2.2"),
			npm_config_update_notifier: "false",
			npm_config_audit: "false",
			npm_config_fund: "false",
		},
		disk: "512M",
		memory: "2G",
	});
	const parts = vm.output.split(/^@step /m).slice(1);
	return all.map((command, i) => {
		const lines = (parts[i] ?? "").split("\n");
		const status = lines.map((line) => /^@status (\d+)$/.exec(line)?.[1]).find((found) => found !== undefined);
		const printed = lines.filter((line) => line.startsWith("|")).map((line) => line.slice(1));
		return { ...command, status: status === undefined ? null : Number(status), printed };
	});
}

for (const [page, who, uid] of USERS) {
	test(`${page}: each command in order, as ${who}`, { skip }, async (t) => {
		for (const { where, command, status, printed, expected } of await outcomes(t, page, uid)) {
			const told = `${where}: ${command}\n${printed.join("\n")}`;
			assert.equal(status, 0, told);
			if (expected !== null && expected.length > 0) assert.ok(fits(expected, printed), `${told}\n\nthe page says:\n${expected.join("\n")}`);
		}
	});
}

test("a page that shows commands is run, or says why not", (t) => {
	const pages = [
		"README.md",
		...readdirSync(join(repository, "docs"))
			.filter((name) => name.endsWith(".md"))
			.map((name) => `docs/${name}`),
	];
	for (const page of pages) {
		if (DEVELOPMENT[page] !== undefined) {
			t.diagnostic(`${page} is not run: ${DEVELOPMENT[page]}`);
			continue;
		}
		const { commands } = blocksOf(page);
		if (commands.length > 0) assert.ok(SET_UPS[page] !== undefined, `${page} has commands that nothing runs: ${commands[0]?.where}`);
		const outside = readFileSync(join(repository, page), "utf8").replace(/^```[\s\S]*?^```$/gm, "");
		const bare = /^ {4}(?:sudo |\.\/holdfast |holdfast |npm |docker ).*$/m.exec(outside);
		assert.equal(bare, null, `${page} shows a command outside of a block: ${bare?.[0]}`);
	}
});
