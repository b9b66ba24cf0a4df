// Exports found by handle and by path, and whom each takes a caller for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Caller, CallerCache, type Peer } from "../rpc/caller.ts";
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

function peer(address: string, isPrivileged = true, isOtherUser = false): Peer {
	return { address, isPrivileged, isOtherUser };
}

function caller(address: string, uid: number, flavor: number = AuthFlavor.sys): Caller {
	return { peer: peer(address), flavor, user: flavor === AuthFlavor.none ? null : { uid, gid: uid, gids: [] } };
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
		{ id: 1, squash: { rootSquash: false } },
		{ id: 2, squash: { rootSquash: true, anonUid: 77 } },
		{
			id: 3,
			squash: { rootSquash: false, anonUid: 88, anonGid: 99 },
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

test("by default root is squashed where it comes from beyond the loopback interface and Unix sockets", () => {
	const exports = exportsOf({ id: 1 }, { id: 2, clients: [{ clients: "*" }, { clients: "10.0.0.2", squash: { rootSquash: false } }] });
	const as = (at: number, address: string) => exports.admission(exports.all[at], caller(address, 0)).who?.uid;
	for (const address of ["unix", "127.0.0.1", "127.8.9.10", "::1"]) for (const at of [0, 1]) assert.equal(as(at, address), 0, address);
	for (const address of ["10.0.0.1", "128.0.0.1", "2001:db8::1", "::2", "fe80::1%lo", ""]) assert.equal(as(0, address), 65534, address);
	assert.equal(as(1, "10.0.0.2"), 0);
	assert.equal(as(1, "10.0.0.3"), 65534);
});

test("an export that is secure is for privileged peers, but for clients whose rule says otherwise", () => {
	const rules = [{ clients: "*" }, { clients: "10.0.0.1", isSecure: false }, { clients: "10.0.0.2", isSecure: true }];
	for (const [isSecure, address, isPrivileged, refusal] of [
		[true, "10.0.0.9", true, null],
		[true, "10.0.0.9", false, "unprivileged"],
		[true, "127.0.0.1", false, "unprivileged"],
		[true, "unix", false, "unprivileged"],
		[true, "10.0.0.1", false, null],
		[false, "10.0.0.9", false, null],
		[false, "10.0.0.2", false, "unprivileged"],
		[false, "10.0.0.2", true, null],
	] as const) {
		const exports = exportsOf({ id: 1, isSecure, clients: rules });
		assert.equal(exports.refusal(peer(address, isPrivileged)), refusal, `${isSecure} ${address} ${isPrivileged}`);
		const { who } = exports.admission(exports.all[0], { ...caller(address, 5), peer: peer(address, isPrivileged) });
		assert.equal(who === null, refusal !== null);
	}
});

test("an export that is its owner's alone is for no other user of this host, whatever their port", () => {
	const exports = exportsOf({ id: 1, isOwnersOnly: true });
	assert.ok(exports.asksOwner);
	assert.equal(exports.refusal(peer("127.0.0.1", false, false)), null);
	assert.equal(exports.refusal(peer("10.0.0.1", false, false)), null);
	for (const isPrivileged of [true, false]) assert.equal(exports.refusal(peer("127.0.0.1", isPrivileged, true)), "other-user");
	assert.ok(!exportsOf({ id: 1, isSecure: true }).asksOwner);
});

test("a peer that one export is for is refused by none as a whole, and by each export for itself", () => {
	const clients = [{ clients: "10.0.0.0/8" }];
	const exports = exportsOf({ id: 1, clients }, { id: 2, clients, isSecure: true }, { id: 3, clients: [{ clients: "unix" }] });
	assert.equal(exports.refusal(peer("10.0.0.1", false)), null);
	assert.equal(exports.refusal(peer("unix", false)), null);
	assert.equal(exports.refusal(peer("11.0.0.1")), "unlisted");
	const who = (at: number, from: Peer) => exports.admission(exports.all[at], { ...caller("", 1), peer: from }).who;
	assert.deepEqual(
		[0, 1, 2].map((at) => who(at, peer("10.0.0.1", false)) !== null),
		[true, false, false],
	);
	assert.deepEqual(
		[0, 1, 2].map((at) => who(at, peer("10.0.0.1")) !== null),
		[true, true, false],
	);
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
	const cache = new CallerCache(peer("10.0.0.1"));
	const who = cache.anonymous();
	const first = exports.all.slice(0, 16).map((served) => exports.admission(served, who));
	for (let round = 0; round < 3; round++) {
		for (const [index, admission] of first.entries()) assert.equal(exports.admission(exports.all[index], who), admission);
	}
	for (let round = 0; round < 2; round++) {
		for (const served of exports.all) assert.equal(exports.admission(served, who).who?.uid, served.number);
	}
});
