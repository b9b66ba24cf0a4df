/** What counts as a mistyped name. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { isMistyped } from "./mistyped.ts";

test("one letter too many, too few, another, or two in the wrong order make a mistyped name; so does the case of letters", () => {
	for (const name of ["uper", "upperr", "uppre", "ypper", "Upper", "uppper"]) {
		assert.ok(isMistyped(name, "upper"), name);
		assert.ok(isMistyped("upper", name), name);
	}
});

test("names that are counted, end in different letters, are short, or differ in more are meant to differ", () => {
	for (const [name, other] of [
		["upper", "upper"],
		["upper1", "upper2"],
		["upper", "upper2"],
		["upper-a", "upper-b"],
		["upper", "lower"],
		["upper", "upper.work"],
		["u", "up"],
		["abc", "abd"],
		["upper", "uepper2"],
		["", "upper"],
	]) {
		assert.ok(!isMistyped(name, other), `${name} ${other}`);
		assert.ok(!isMistyped(other, name), `${other} ${name}`);
	}
});
