// Names that are refused, and names as people see them.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { OverlayError, type OverlayErrorCode } from "./errors.ts";
import {
	checkName,
	checkNewName,
	checkOldName,
	escapeForJson,
	isDot,
	isDotDot,
	nameInJson,
	quoteForShell,
	showName,
	shownBytes,
	showText,
} from "./names.ts";

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

/** Names with each byte, in UTF-8 and not, and with what looks like an escape. */
const hostile = [
	...Array.from({ length: 256 }, (_, byte) => byte)
		.filter((byte) => byte !== 0 && byte !== 0x2f)
		.map((byte) => bytes(0x61, byte, 0x62)),
	...[
		"\\x1b",
		"\\\\x5c",
		"a\n\nb",
		"\u{e0041}",
		"\ufffd",
		"\ufeff",
		"é\\",
		"\u2066",
		"\u034f",
		"'",
		'"',
		"$(id)",
		"`id`",
		"!1",
		"~",
		"-n",
		"",
	].map(name),
	bytes(0xc3, 0xa9, 0xff),
	bytes(0xed, 0xa0, 0x80),
	bytes(0xf4, 0x90, 0x80, 0x80),
];

test("what is shown of a name leads back to its bytes, so that different names look different", () => {
	for (const one of hostile) assert.deepEqual([...shownBytes(showName(one))], [...one]);
	assert.equal(new Set(hostile.map(showName)).size, hostile.length);
	assert.deepEqual([...shownBytes(`${showName(bytes(0xff))}/${showName(name("é"))}`)], [0xff, 0x2f, 0xc3, 0xa9]);
});

test("JSON has the text of a name, or its bytes in base64 where they are no UTF-8, and nothing that a terminal obeys", () => {
	for (const one of hostile) {
		const json = escapeForJson(JSON.stringify([nameInJson(showName(one))]));
		assert.match(json, /^[\x20-\x7e\u00a1-\u{10ffff}]*$/u);
		const [value] = JSON.parse(json);
		assert.deepEqual([...(typeof value === "string" ? name(value) : Buffer.from(value.base64, "base64"))], [...one]);
		assert.equal(typeof value === "string", name(Buffer.from(one).toString()).equals(one));
	}
});

test("a line of a message has no newline and nothing that a terminal obeys, and what was shown before stays as it is", () => {
	assert.equal(
		showText("a\nb\x1b]0;x\x07\ttab\u009b1m\u202e \ud800"),
		"a\\x0ab\\x1b]0;x\\x07\\x09tab\\xc2\\x9b1m\\xe2\\x80\\xae \\xef\\xbf\\xbd",
	);
	for (const one of hostile) assert.equal(showText(showName(one)), showName(one));
});

test("a word pasted into a shell is the word again", () => {
	const words = [...hostile.map((one) => Buffer.from(one).toString()), "\x1b1", "a b", "it's", "=ls", "new\nline's\\1"];
	const script = `for word in ${words.map(quoteForShell).join(" ")}; do printf '%s\\0' "$word"; done`;
	assert.match(script, /^[\x20-\x7e\u00a1-\u{10ffff}]*$/u);
	assert.deepEqual(spawnSync("bash", ["-c", script], { encoding: "utf8" }).stdout.split("\0").slice(0, -1), words);
	assert.equal(quoteForShell("/srv/a-b_c:d,e=f"), "/srv/a-b_c:d,e=f");
});
