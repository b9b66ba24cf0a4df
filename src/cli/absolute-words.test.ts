// Command lines whose paths mean the same in every working directory.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { test } from "node:test";
import { Command } from "commander";
import { scratch } from "../../test/support/scratch.ts";
import { absoluteWords } from "./absolute-words.ts";

const command = new Command()
	.option("--lower <dir>")
	.option("--export <NAME=DIR>")
	.option("--listen <address>")
	.option("--name <name>")
	.option("--mount <mountpoint>")
	.option("-o <options>")
	.option("--create");

test("directories of options and arguments become absolute, and nothing else does", (t) => {
	const made = scratch(t);
	const before = process.cwd();
	process.chdir(made.path);
	t.after(() => process.chdir(before));
	mkdirSync("there");
	const words = (given: string[], named = 0) => absoluteWords(command, given, named);
	const at = (path: string) => `${made.path}/${path}`;
	assert.deepEqual(words(["--lower", "a", "--lower=b=c", "--create", "--lower", "/d"]), [
		"--lower",
		at("a"),
		`--lower=${at("b=c")}`,
		"--create",
		"--lower",
		"/d",
	]);
	assert.deepEqual(words(["--export", "/n=x=y", "--listen", "unix:s", "--listen", "127.0.0.1:1", "--name", "n", "-o", "ro"]), [
		"--export",
		`/n=${at("x=y")}`,
		"--listen",
		`unix:${at("s")}`,
		"--listen",
		"127.0.0.1:1",
		"--name",
		"n",
		"-o",
		"ro",
	]);
	assert.deepEqual(words(["--mount", "p", "set", "there", "./set", ""]), ["--mount", at("p"), "set", at("there"), at("set"), ""]);
	assert.deepEqual(words(["set", "point"], 1), ["set", at("point")]);
	assert.deepEqual(words(["--create", "--", "--lower", "x"], 1), ["--create", "--", at("--lower"), at("x")]);
	assert.deepEqual(words(["--lower"]), ["--lower"]);
});
