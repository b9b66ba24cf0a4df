// Exports found by handle and by path, and whom each takes a caller for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Caller, CallerCache } from "../rpc/caller.ts";
import { AuthFlavor } from "../rpc/rpc-message.ts";
import type { OverlayOperations } from "../vfs/operations.ts";
import type { ExportOptions } from "./export.ts";
import { credentialsOf, Exports } from "./exports.ts";

function overlay(id: number): OverlayOperations {
	return { root: { type: 4, handle: handle(id) } } as unknown as OverlayOperations;
}

function handle(id: number, bytes = 20): Buffer {
	const made = Buffer.alloc(bytes, 7);
	made.writeUInt32BE(id, 4);
	return made;
}

function exportsOf(...options: (Partial<ExportOptions> & { id: number })[]): Exports {
	return new Exports(options.map(({ id, name = `/${id}`, ...rest }) => ({ name, overlay: overlay(id), ...rest })));
}

function caller(address: string, uid: number, flavor: number = AuthFlavor.sys): Caller {
	return { peer: { address }, flavor, user: flavor === AuthFlavor.none ? null : { uid, gid: uid, gids: [] } };
}

test("a handle leads to the export whose id it bears, and to none where there is no such id", () => {
	const exports = exportsOf({ id: 1 }, { id: 0xfffffffe }, { id: 0x80000000 });
	for (const [id, name] of [
		[1, "/1"],
		[0x80000000, "/2147483648"],
		[0xfffffffe, "/4294967294"],
		[1, "/1"],
	] as const) {
		assert.equal(exports.byHandle(handle(id))?.name, name);
		assert.equal(exports.byHandle(handle(id, 8))?.name, name);
	}
	for (const id of [0, 2, 0x7fffffff, 0xffffffff]) assert.equal(exports.byHandle(handle(id)), null);
	for (let bytes = 0; bytes < 8; bytes++) assert.equal(exports.byHandle(Buffer.alloc(bytes)), null);
	assert.equal(new Exports([]).byHandle(handle(0)), null);
});

test("a path leads to the export of the longest name, and to the names behind it", () => {
	const exports = exportsOf({ id: 1, name: "/" }, { id: 2, name: "/a" }, { id: 3, name: "//a/b/" });
	const at = (path: string): string | undefined => {
		const found = exports.byPath(Buffer.from(path));
		return found === null ? undefined : [found.export.name, ...found.names.map(String)].join(" ");
	};
	assert.deepEqual(["", "/", "/x/a", "/a", "/a/", "/ab", "/a/c", "/a/b", "/a//b/c/d"].map(at), [
		"/",
		"/",
		"/ x a",
		"/a",
		"/a",
		"/ ab",
		"/a c",
		"//a/b/",
		"//a/b/ c d",
	]);
	assert.equal(exportsOf({ id: 1, name: "/a" }).byPath(Buffer.from("/b")), null);
});

test("exports that cannot be told apart by name or handle are refused with a sentence", () => {
	assert.throws(() => exportsOf({ id: 1, name: "/a" }, { id: 2, name: "/a/" }), /name/);
	assert.throws(() => exportsOf({ id: 1, name: "/a" }, { id: 1, name: "/b" }), /the same id/);
});

test("file system numbers differ between exports", () => {
	const { all } = exportsOf(...Array.from({ length: 1000 }, (_, index) => ({ id: index })));
	assert.equal(new Set(all.map(({ fsidHi, fsidLo }) => `${fsidHi}:${fsidLo}`)).size, 1000);
});

test("a caller is squashed as each export, and the closest of its rules, says", () => {
	const exports = exportsOf(
		{ id: 1 },
		{ id: 2, squash: { rootSquash: true, anonUid: 77 } },
		{
			id: 3,
			squash: { anonUid: 88, anonGid: 99 },
			clients: [{ clients: "10.0.0.0/8" }, { clients: "10.0.0.1", squash: { allSquash: true } }],
		},
	);
	const [one, two, three] = exports.all;
	const [root, other] = [caller("10.0.0.1", 0), caller("10.0.0.2", 0)];
	for (let round = 0; round < 2; round++) {
		assert.deepEqual(exports.admission(one, root).who, { uid: 0, gid: 0, gids: [] });
		assert.equal(exports.admission(two, root).who?.uid, 77);
		assert.deepEqual(exports.admission(three, root).who, { uid: 88, gid: 99, gids: [] });
		assert.deepEqual(exports.admission(three, other).who, { uid: 0, gid: 0, gids: [] });
	}
});

test("a client that no rule names, or a flavor that is not taken, is refused", () => {
	const exports = exportsOf({ id: 1, clients: [{ clients: "10.0.0.0/8", readOnly: true }] }, { id: 2, flavors: [AuthFlavor.sys] });
	const [one, two] = exports.all;
	assert.equal(exports.admission(one, caller("10.0.0.1", 1)).readOnly, true);
	assert.throws(() => credentialsOf(exports.admission(one, caller("11.0.0.1", 1))), { code: "acces" });
	assert.throws(() => credentialsOf(exports.admission(one, caller("unix", 1))), { code: "acces" });
	assert.equal(credentialsOf(exports.admission(two, caller("unix", 1))).uid, 1);
	assert.throws(() => credentialsOf(exports.admission(two, caller("unix", 1, AuthFlavor.none))), { code: "acces" });
});

test("a caller that was here before costs nothing, with up to 16 exports in turn; with more it is still right", () => {
	const exports = exportsOf(...Array.from({ length: 40 }, (_, index) => ({ id: index, squash: { allSquash: true, anonUid: index } })));
	const cache = new CallerCache({ address: "10.0.0.1" });
	const who = cache.anonymous();
	const first = exports.all.slice(0, 16).map((served) => exports.admission(served, who));
	for (let round = 0; round < 3; round++) {
		for (const [index, admission] of first.entries()) assert.equal(exports.admission(exports.all[index], who), admission);
	}
	for (let round = 0; round < 2; round++) {
		for (const served of exports.all) assert.equal(exports.admission(served, who).who?.uid, served.number);
	}
});
