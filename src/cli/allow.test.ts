// What `--allow` takes, and what it refuses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAllow } from "./allow.ts";

test("a client and its options, in the words of exports(5) or with hyphens, the last of two holding", () => {
	for (const [given, rule] of [
		["10.0.0.1", { clients: "10.0.0.1" }],
		["10.0.0.0/8,ro", { clients: "10.0.0.0/8", readOnly: true }],
		["10.0.0.0/8,ro,rw", { clients: "10.0.0.0/8", readOnly: false }],
		["2001:db8::/32,insecure", { clients: "2001:db8::/32", isSecure: false }],
		["[2001:db8::1],secure", { clients: "2001:db8::1", isSecure: true }],
		["::ffff:10.0.0.0/104", { clients: "::ffff:10.0.0.0/104" }],
		["*,root_squash,no_root_squash", { clients: "*", squash: { rootSquash: false } }],
		["unix,all-squash", { clients: "unix", squash: { allSquash: true } }],
		[
			"build.example,no-root-squash,anonuid=5,anon-gid=6",
			{ clients: "build.example", squash: { rootSquash: false, anonUid: 5, anonGid: 6 } },
		],
		["a,all_squash,no_all_squash,anonuid=0,ro", { clients: "a", readOnly: true, squash: { allSquash: false, anonUid: 0 } }],
	] as const) {
		assert.deepEqual(parseAllow(given, []), [rule], given);
	}
	assert.deepEqual(parseAllow("b,ro", [{ clients: "a" }]), [{ clients: "a" }, { clients: "b", readOnly: true }]);
});

test("what names no client is refused with a sentence", () => {
	for (const given of [
		"",
		",ro",
		"10.0.0.1/8",
		"10.0.0.300",
		"10.0",
		"*.example",
		"@group",
		"fe80::1%lo",
		"[localhost]",
		"[*]",
		"a b",
		"::ffff:10.0.0.0/90",
		"host/24",
		"-a",
		"Unix/8",
	])
		assert.throws(() => parseAllow(given, []), /A client is the name of a host/, given);
});

test("an option that is none is refused with a sentence", () => {
	for (const option of ["", "no_subtree_check", "anonuid=x", "anonuid=4294967295", "anonuid", "ro=1", "RO", "toString", "__proto__"])
		assert.throws(() => parseAllow(`10.0.0.1,${option}`, []), /Its options are ro, rw, .*anonuid=N/, option);
});
