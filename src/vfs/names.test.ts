// Names that are refused, and names as people see them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { OverlayError, type OverlayErrorCode } from "./errors.ts";
import { checkName, checkNewName, checkOldName, isDot, isDotDot, showName } from "./names.ts";

/** The code that a check throws, or null. */
function codeOf(check: (name: Uint8Array) => void, name: Uint8Array): OverlayErrorCode | null {
	try {
		check(name);
		return null;
	} catch (error) {
		assert.ok(error instanceof OverlayError);
		return error.code;
	}
}

const bytes = (...values: number[]) => Uint8Array.from(values);
const name = (text: string) => Buffer.from(text);

test("any 1 to 255 bytes without a slash and NUL are a name", () => {
	const good = [
		name("a"),
		bytes(0xff),
		bytes(1),
		name("..."),
		name(".a"),
		name("a."),
		name(" "),
		Buffer.alloc(255, 0xfe),
		name("é".repeat(127)),
	];
	for (const one of good) {
		for (const check of [checkName, checkNewName, checkOldName]) assert.equal(codeOf(check, one), null);
	}
});

test("no name, a name of 256 bytes, and one with a slash or NUL anywhere are refused", () => {
	for (const check of [checkName, checkNewName, checkOldName]) {
		assert.equal(codeOf(check, bytes()), "inval");
		assert.equal(codeOf(check, Buffer.alloc(256, "n")), "nametoolong");
		assert.equal(codeOf(check, Buffer.alloc(256, "/")), "nametoolong");
		for (const bad of ["/", "a/b", "/a", "a/", "\0", "a\0", "\0a"]) assert.equal(codeOf(check, name(bad)), "inval", JSON.stringify(bad));
	}
});

test(". and .. may be looked up, exist already for who makes something, and can be neither removed nor moved", () => {
	for (const dots of [name("."), name("..")]) {
		assert.equal(codeOf(checkName, dots), null);
		assert.equal(codeOf(checkNewName, dots), "exist");
		assert.equal(codeOf(checkOldName, dots), "inval");
	}
});

test("only . is the dot, and only .. the two", () => {
	assert.deepEqual(
		["", ".", "..", "...", "a", ".a"].map((text) => isDot(name(text))),
		[false, true, false, false, false, false],
	);
	assert.deepEqual(
		["", ".", "..", "...", "aa", "a."].map((text) => isDotDot(name(text))),
		[false, false, true, false, false, false],
	);
});

test("a name for people has nothing that a terminal obeys, that is not seen, or that turns the line round", () => {
	const shown: [string | Uint8Array, string][] = [
		["Grüße, 世界 🙂", "Grüße, 世界 🙂"],
		["\x1b[31m\n\x7f\\", "\\x1b[31m\\x0a\\x7f\\x5c"],
		["\u009b", "\\xc2\\x9b"],
		["gpj\u202exe\u200b\u2028", "gpj\\xe2\\x80\\xaexe\\xe2\\x80\\x8b\\xe2\\x80\\xa8"],
		[bytes(0x61, 0xff, 0x1b, 0xc3, 0xa9), "a\\xff\\x1b\\xc3\\xa9"],
	];
	for (const [given, expected] of shown) assert.equal(showName(typeof given === "string" ? name(given) : given), expected);
});
