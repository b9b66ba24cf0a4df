/** A Linux client reads what the lowers have within the life of its attribute cache, when changes are discarded under it; what it has open goes on. */

import assert from "node:assert/strict";
import { linkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { layerArguments, runHoldfast, startServer } from "../support/server-process.ts";
import { assertQuiet, runVm } from "../support/virtual-machine.ts";

const skip = needs("root", "vm");

for (const version of ["4.1", "3"]) {
	test(`a Linux client of version ${version} sees the lowers again after a discard on the running server`, { skip }, async (t) => {
		const made = scratch(t);
		const lower = plant(made.folder("lower"), {
			same: "lower",
			longer: "lower",
			"dir/in": "lower",
			"dir/sub/leaf": "leaf",
			"removed/deep/file": "it comes back",
			"two/a": "two names",
			file: "a file",
		});
		linkSync(join(lower, "two/a"), join(lower, "two/b"));
		const layers = { lowers: [lower], upper: made.folder("upper"), work: join(made.path, "work") };
		const server = await startServer(made, { ...layers, args: ["--state-dir", made.folder("state")] });
		const nfs = await server.client();
		const told: string[] = [];
		let discarded: Promise<unknown> = Promise.resolve();
		const vm = await runVm(made, "discard.sh", {
			env: { PORT: String(server.port), VERSION: version },
			onLine: (line) => {
				if (line !== "@discard") return;
				const { code, stdout, stderr } = runHoldfast(["discard", ...layerArguments(layers), "--yes"]);
				told.push(`${code} ${stdout}${stderr}`);
				discarded = nfs.root().then((root) => nfs.create(root, "done"));
			},
		});
		await discarded;
		nfs.close();
		assertQuiet(t, vm, server.stderr);
		assert.match(told.join(""), /^0 discarded: /);
		assert.ok(vm.output.split("\n").includes("@as in the lowers"), vm.output);
		await server.terminate();
	});
}
