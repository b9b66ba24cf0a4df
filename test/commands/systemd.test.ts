// The unit of the Debian package under a real systemd, in a machine of its own.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { PATH } from "../support/package-registry.ts";
import { needs, repository } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { runVm } from "../support/virtual-machine.ts";

const skip =
	needs("root", "vm", "dpkg-deb", "systemd-analyze") || (existsSync("/lib/systemd/systemd") ? false : "needs /lib/systemd/systemd");

test("systemd starts the unit, sees that it is ready and alive, keeps it within its bounds, restarts it after a kill, and stops it", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const printed = execFileSync(join(repository, "scripts/deb.sh"), [made.path], { encoding: "utf8", env: { ...process.env, PATH } });
	const archive = /'([^']+\.deb)'/.exec(printed)?.[1] as string;
	const vm = await runVm(made, "systemd.sh", { env: { PACKAGE: archive, NODE: process.execPath }, disk: "512M" });
	assert.equal(vm.status, 0, vm.output);
	const told = Object.fromEntries(
		vm.output
			.trim()
			.split("\n")
			.map((line) => /^(@\S+) ?(.*)$/.exec(line)?.slice(1) ?? [line, "complained"]),
	);
	assert.match(told["@list"], /^golden +\S+ [KM]iB +in service +kernel +\/srv\/golden$/);
	const { "@list": _, ...others } = told;
	assert.deepEqual(others, {
		"@started": "active Serving at 127.0.0.1:20490",
		"@watchdog": "",
		// a filter of system calls
		"@seccomp": "2",
		"@usr": "Read-only file system",
		"@mount": "changed made motd",
		"@stopped": "inactive success",
	});
});
