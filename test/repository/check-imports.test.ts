import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { repository } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

function check(top: string, files: Record<string, string>) {
	for (const [path, text] of Object.entries(files)) {
		mkdirSync(dirname(join(top, path)), { recursive: true });
		writeFileSync(join(top, path), text);
	}
	return spawnSync(process.execPath, [join(repository, "scripts/check-imports.mjs"), top], { encoding: "utf8" });
}

const base = {
	"src/overlay/operations/overlay.ts": 'import type { Layer } from "../../layer/layer.ts";\n',
	"src/layer/layer.ts": "export type Layer = number;\n",
	"src/vfs/operations.ts": "",
	"src/nfs3/read.ts": 'import { a } from "../vfs/operations.ts";\n',
	"src/server/server.ts": 'import { a } from "../overlay/operations/overlay.ts";\n',
	"src/mount3/mnt.ts": "",
	"test/support/client.ts": "",
};

const cases: [name: string, files: Record<string, string>, complaint: RegExp | null][] = [
	["downward imports pass", {}, null],
	[
		"an upward import",
		{ "src/layer/up.ts": '\nimport {\n\ta,\n} from "../overlay/operations/overlay.ts";\n' },
		/^src\/layer\/up.ts:2: .*overlay\/operations is above layer$/m,
	],
	[
		"a re-export upward",
		{ "src/layer/up.ts": 'export * from "../overlay/operations/overlay.ts";\n' },
		/overlay\/operations is above layer/,
	],
	[
		"a dynamic import upward",
		{ "src/layer/up.ts": `await ${"import"}("../overlay/operations/overlay.ts");\n` },
		/overlay\/operations is above layer/,
	],
	[
		"an upward import between rooms of the overlay",
		{ "src/overlay/format/x.ts": 'import "../operations/overlay.ts";\n' },
		/overlay\/operations is above overlay\/format/,
	],
	[
		"a front end that imports the overlay",
		{ "src/nfs3/x.ts": 'import "../overlay/operations/overlay.ts";\n' },
		/nfs3 knows the contract in vfs/,
	],
	[
		"a front end that imports a layer",
		{ "src/mount3/x.ts": 'import type { A } from "../layer/layer.ts";\n' },
		/mount3 knows the contract in vfs/,
	],
	["a test of a front end may make an overlay", { "src/nfs3/x.test.ts": 'import "../overlay/operations/overlay.ts";\n' }, null],
	[
		"claims that know the wire",
		{ "src/claims/x.ts": 'import "../xdr/reader.ts";\n', "src/xdr/reader.ts": "" },
		/claims knows the contract in vfs/,
	],
	["a room above the front ends' own", { "src/exports/x.ts": 'import "../nfs3/read.ts";\n' }, /nfs3 is above exports/],
	[
		"a room for changes, between upkeep and opening",
		{
			"src/overlay/changes/x.ts": 'import "../opening/y.ts";\n',
			"src/overlay/opening/y.ts": "",
			"src/overlay/upkeep/z.ts": 'import "../changes/x.ts";\n',
		},
		null,
	],
	[
		"a circle of two files",
		{ "src/layer/a.ts": 'import "./b.ts";\n', "src/layer/b.ts": '\nimport type { A } from "./a.ts";\n' },
		/^src\/layer\/b.ts:2: closes a circle: src\/layer\/a.ts -> src\/layer\/b.ts -> src\/layer\/a.ts$/m,
	],
	[
		"a circle of three files that is entered from outside",
		{
			"src/cli/main.ts": 'import "../layer/b.ts";\n',
			"src/layer/a.ts": 'import "./b.ts";\n',
			"src/layer/b.ts": 'export * from "./c.ts";\n',
			"src/layer/c.ts": 'import type { A } from "./a.ts";\n',
		},
		/closes a circle: src\/layer\/b.ts -> src\/layer\/c.ts -> src\/layer\/a.ts -> src\/layer\/b.ts/,
	],
	["a file that imports itself", { "src/layer/a.ts": 'import type { A } from "./a.ts";\n' }, /src\/layer\/a.ts -> src\/layer\/a.ts/],
	[
		"two ways to one file are no circle",
		{ "src/layer/a.ts": 'import "./b.ts";\nimport "./c.ts";\n', "src/layer/b.ts": 'import "./c.ts";\n', "src/layer/c.ts": "" },
		null,
	],
	["rooms of one row", { "src/nfs3/x.ts": 'import "../mount3/mnt.ts";\n' }, /do not know each other/],
	["a test of src upward", { "src/layer/a.test.ts": 'import "../overlay/operations/overlay.ts";\n' }, /overlay\/operations is above layer/],
	["src that imports test", { "src/cli/a.ts": 'import "../../test/support/client.ts";\n' }, /src does not know test/],
	["a test of src may use test/support", { "src/cli/a.test.ts": 'import "../../test/support/client.ts";\n' }, null],
	["test/support that imports src", { "test/support/b.ts": 'import "../../src/layer/layer.ts";\n' }, /oracle/],
	["a file outside the folders of test", { "test/loose.test.ts": "" }, /^test\/loose.test.ts:1: lies in no folder of test/m],
	["an unknown room", { "src/misc/a.ts": 'import "../layer/layer.ts";\n' }, /room "misc" is not in the order/],
	["the FFI above linux", { "src/layer/ffi.ts": 'import koffi from "koffi";\n' }, /only linux may import it/],
	["the network in the overlay", { "src/overlay/operations/net.ts": 'import { connect } from "node:net";\n' }, /may import it/],
	["a missing extension", { "src/nfs3/x.ts": 'import "./read";\n' }, /ends in \.ts/],
	["an import in a comment", { "src/layer/up.ts": '/*\nimport "../overlay/operations/overlay.ts";\n*/\n' }, null],
];

for (const [name, files, complaint] of cases) {
	test(`check-imports: ${name}`, (t) => {
		const run = check(scratch(t).path, { ...base, ...files });
		if (complaint) assert.match(run.stderr, complaint);
		else assert.equal(run.stderr, "");
		assert.equal(run.status, complaint ? 1 : 0);
	});
}
