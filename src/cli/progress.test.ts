// When long work is spoken of, where there is no terminal.

import assert from "node:assert/strict";
import { test } from "node:test";
import { scratch } from "../../test/support/scratch.ts";
import { walkTree } from "../layer/walk-tree.ts";
import { close, O, openPath } from "../linux/open.ts";
import { tellProgress } from "../vfs/progress.ts";
import { printToLogs } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import type { ServerLog } from "./server-log.ts";

function told(): string[] {
	const lines: string[] = [];
	const log = { write: (text: string) => lines.push(text) > 0 } as unknown as ServerLog;
	printToLogs({ stdout: log, stderr: log });
	return lines;
}

test("work is spoken of after ten seconds, then every ten seconds, until it ends", (t) => {
	t.mock.timers.enable({ apis: ["Date"] });
	const lines = told();
	const line = new ProgressLine();
	line.show(() => "at once");
	tellProgress("looking through /a", 1, "directories");
	t.mock.timers.setTime(9_999);
	line.show(() => "soon");
	t.mock.timers.setTime(10_000);
	tellProgress("looking through /a", 2, "directories");
	line.show(() => "just behind it");
	t.mock.timers.setTime(20_000);
	line.show(() => "copying");
	t.mock.timers.setTime(30_000);
	line.end();
	tellProgress("looking through /b", 3, "directories");
	assert.deepEqual(lines, ["holdfast: looking through /a: 2 directories.\n", "holdfast: copying.\n"]);
});

test("whoever walks a tree tells of it", (t) => {
	t.mock.timers.enable({ apis: ["Date"] });
	const lines = told();
	const { path } = scratch(t);
	const line = new ProgressLine();
	t.mock.timers.setTime(10_000);
	const root = openPath(path, O.rdonly | O.directory);
	walkTree({ root, path }, null, () => null);
	close(root);
	line.end();
	assert.deepEqual(lines, [`holdfast: looking through ${path}: 1 directories.\n`]);
});
