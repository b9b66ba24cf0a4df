// Findings are collected up to a bound, and counted beyond.

import assert from "node:assert/strict";
import { test } from "node:test";
import { showName } from "../../vfs/names.ts";
import { Findings } from "./findings.ts";

test("a name is shown as it is, but for what is no UTF-8 or would upset a terminal", () => {
	for (const [name, shown] of [
		[Buffer.from("plain name"), "plain name"],
		[Buffer.from("Größe"), "Größe"],
		[Buffer.from("a\x1b[31mb\n"), "a\\x1b[31mb\\x0a"],
		[Buffer.from("back\\slash"), "back\\x5cslash"],
		[Buffer.from([0x61, 0xff, 0xc3]), "a\\xff\\xc3"],
	] as const) {
		assert.equal(showName(name), shown);
	}
});

test("findings beyond the bound are counted, and not kept", () => {
	const findings = new Findings();
	for (let i = 0; i < 100_005; i++) findings.add({ kind: "leftover", severity: "note", path: `work/${i}`, message: "", remedy: null });
	assert.deepEqual([findings.all.length, findings.omitted], [100_000, 5]);
});
