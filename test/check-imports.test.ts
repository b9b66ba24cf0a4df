import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { repository } from "./support/requirements.ts";
import { scratch } from "./support/scratch.ts";

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
	"src/nfs3/read.ts": 'import { a } from "../overlay/operations/overlay.ts";\n',
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
	["rooms of one row", { "src/nfs3/x.ts": 'import "../mount3/mnt.ts";\n' }, /do not know each other/],
	["a test of src upward", { "src/layer/a.test.ts": 'import "../overlay/operations/overlay.ts";\n' }, /overlay\/operations is above layer/],
	["src that imports test", { "src/cli/a.ts": 'import "../../test/support/client.ts";\n' }, /src does not know test/],
	["a test of src may use test/support", { "src/cli/a.test.ts": 'import "../../test/support/client.ts";\n' }, null],
	["test/support that imports src", { "test/support/b.ts": 'import "../../src/layer/layer.ts";\n' }, /oracle/],
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
