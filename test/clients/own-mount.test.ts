/** The kernel's client and the server on one machine, with the program's defaults: the printed lines mount and unmount, from root's ports. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { needs, repository } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { runVm } from "../support/virtual-machine.ts";

test("root and an ordinary user serve, and the printed lines mount and unmount; set user ids count for nothing", {
	skip: needs("root", "vm"),
}, async (t) => {
	const vm = await runVm(scratch(t), "own-mount.sh", { env: { PROGRAM: join(repository, "dist/src/cli/main.js") }, disk: "512M" });
	assert.equal(vm.status, 0, vm.output);
	assert.deepEqual(
		vm.output.split("\n").filter((line) => line.startsWith("@")),
		[
			"@root nosuid,nodev",
			"@root secret",
			"@root made 4755 0",
			"@user 1000",
			"@user no secret",
			"@root mount.nfs: access denied by server while mounting 127.0.0.1:/",
			"@user mine 1000",
		],
	);
});
