// The sentences for machines that cannot run the program, and what is known of this one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { thisMachine, unfitMachine } from "./unfit-machine.ts";

const DEBIAN = { platform: "linux", arch: "x64", glibc: "2.36" };
const missing = Object.assign(new Error("Cannot find module 'koffi'\nRequire stack:"), { code: "MODULE_NOT_FOUND" });
const noBinary = new Error("Cannot find the native Koffi module; did you bundle it correctly?");
const noLibrary = new Error("Failed to load shared library: Error loading shared library libc.so.6: No such file or directory");

test("each unfit machine gets one sentence with the reason", () => {
	for (const error of [missing, noBinary, noLibrary]) {
		assert.match(unfitMachine(error, { ...DEBIAN, glibc: undefined }).message, /^The server needs the GNU C library.*Alpine.*\.$/);
		assert.match(unfitMachine(error, { ...DEBIAN, platform: "darwin" }).message, /^The server runs on Linux alone, and this is darwin/);
	}
	assert.match(unfitMachine(missing, DEBIAN).message, /^The package koffi is missing: [^\n]*\.$/);
	assert.match(unfitMachine(noBinary, DEBIAN).message, /^The package koffi cannot be loaded .*native Koffi module.*--omit=optional\.$/);
});

test("a machine that runs the program is known as one", () => {
	const { platform, glibc } = thisMachine();
	assert.equal(platform, "linux");
	assert.match(glibc ?? "", /^\d+\.\d+/);
});
