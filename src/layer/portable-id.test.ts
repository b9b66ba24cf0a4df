// Portable ids byte by byte: they must never change.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import type { FileHandle } from "../linux/file-handle.ts";
import { close, O, openPath } from "../linux/open.ts";
import { Stat } from "../linux/stat.ts";
import { searchPath } from "./path-search.ts";
import { DEPTH_MAX, depthOf, idBelow, isPathId, LOWER_ROOT, mayBe } from "./portable-id.ts";

function statOf(type: number, size = 0, mtimeSec = 0): Stat {
	const stat = new Stat();
	stat.mode = type << 12;
	stat.realType = type;
	stat.sizeLo = size;
	stat.mtimeSec = mtimeSec;
	return stat;
}

const DIRECTORY = statOf(4);

function idOf(names: readonly Uint8Array[], last: Stat): FileHandle {
	let id = LOWER_ROOT;
	for (const [i, name] of names.entries()) id = idBelow(id, name, i === names.length - 1 ? last : DIRECTORY);
	return id;
}

const bytesOf = (path: string) => path.split("/").map((name) => Buffer.from(name, "latin1"));

test("ids are as in the first version: clients keep them, and layers take them along", () => {
	const golden: readonly (readonly [string, Stat, string])[] = [
		["a", DIRECTORY, GOLDEN[0]],
		["etc/passwd", statOf(8, 1234, 1_700_000_000), GOLDEN[1]],
		["a/b/\xff", statOf(10, 3, -5), GOLDEN[2]],
		[Array.from({ length: 30 }, (_, i) => `d${i}`).join("/"), statOf(8, 0, 1), GOLDEN[3]],
		[Array.from({ length: 300 }, (_, i) => `d${i}`).join("/"), DIRECTORY, GOLDEN[4]],
	];
	for (const [path, stat, hex] of golden) {
		const id = idOf(bytesOf(path), stat);
		assert.equal(id.type, 0xe1);
		assert.equal(id.bytes.toString("hex"), hex, path);
	}
	assert.equal(LOWER_ROOT.bytes.toString("hex"), GOLDEN[5]);
});

const name = fc.uint8Array({ minLength: 1, maxLength: 255 }).filter((bytes) => !bytes.includes(0) && !bytes.includes(0x2f));

test("an id fits into a handle, has its shape, and its own names fit to its hints, at any depth", () => {
	fc.assert(
		fc.property(fc.array(name, { minLength: 1, maxLength: 400 }), (names) => {
			const id = idOf(names, statOf(8, 1, 2));
			assert.ok(id.bytes.length <= 44);
			assert.ok(isPathId(id));
			assert.equal(depthOf(id.bytes), Math.min(names.length, DEPTH_MAX));
			for (const [place, one] of names.entries()) if (place < DEPTH_MAX) assert.ok(mayBe(id.bytes, place, one), String(place));
		}),
		{ numRuns: 50 },
	);
});

test("size, mtime and type of a file show in its id, and a directory's times do not", () => {
	const file = (size: number, mtime: number, type = 8) => idOf(bytesOf("f"), statOf(type, size, mtime)).bytes.toString("hex");
	const all = [file(1, 1), file(2, 1), file(1, 2), file(1, 1, 10), file(1, 1, 1)];
	assert.equal(new Set(all).size, all.length);
	assert.equal(file(1, 1, 4), file(9, 9, 4));
});

test("a search finds every path of a tree, and no other", (t) => {
	const root = mkdtempSync(join(tmpdir(), "holdfast-search-"));
	t.after(() => rmSync(root, { recursive: true }));
	const paths: string[] = [];
	for (let i = 0; i < 60; i++) {
		const directory = Array.from({ length: i % 13 }, (_, depth) => `d${(i * 7 + depth) % 5}`).join("/");
		mkdirSync(join(root, directory), { recursive: true });
		const path = directory === "" ? `f${i}` : `${directory}/f${i}`;
		writeFileSync(join(root, path), "");
		paths.push(path);
	}
	const fd = openPath(root, O.rdonly | O.directory);
	const find = (path: string) => {
		const found = searchPath(fd, idOf(bytesOf(path), statOf(8)).bytes, Number.POSITIVE_INFINITY);
		return Array.isArray(found) ? Buffer.concat(found.flatMap((one, i) => (i === 0 ? [one] : [Buffer.from("/"), one]))).toString() : found;
	};
	for (const path of paths) assert.equal(find(path), path);
	for (const path of ["f60", "d0/none", "d0/d1/d2/none", "none/f1"]) assert.equal(find(path), null);
	close(fd);
});

const GOLDEN = [
	"87746692e0f9a146e2282223230877e2d41ce04401a249",
	"b48020cda35c331a41aa8c063ba686002e9cc5f902f9e797e3",
	"7f117d0ceee2358eabb6e9331b7e07061369a5b103a2492ae490f2",
	"19b5eabd1501b446c8c18b99059c6111659a2fdf1ed251793b7af0da3e9aa71baa0cb826cdf9d8ebc6931430",
	"928701504ff1f0234a17c88e8488916fd41ce044ffd7ef3ac2fbcc2081acc323d9ebf72a6e82908be7a8b4f1",
	"4759cfc8a9fbfcffdf0b4879aa406e12d41ce04400",
] as const;
