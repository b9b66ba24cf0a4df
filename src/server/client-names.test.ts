// Names of hosts in rules and addresses: several addresses, and none.

import assert from "node:assert/strict";
import { test } from "node:test";
import { isHostName, resolveClients, resolveListen } from "./client-names.ts";

const hosts: Record<string, readonly string[]> = { one: ["10.0.0.1"], "two.example": ["10.0.0.2", "2001:db8::2", "10.0.0.2"], none: [] };
const resolve = async (host: string): Promise<readonly string[]> => {
	const found = hosts[host];
	if (found === undefined) throw new Error("ENOTFOUND");
	return found;
};

test("a name becomes a rule for each of its addresses, with what the rule says; all else stays", async () => {
	const squash = { allSquash: true };
	const rules = [
		{ clients: "*", readOnly: true },
		{ clients: "two.example", squash },
		{ clients: "10.0.0.0/8" },
		{ clients: "unix" },
		{ clients: "::1" },
		{ clients: "one" },
	];
	assert.deepEqual(await resolveClients(rules, resolve), [
		{ clients: "*", readOnly: true },
		{ clients: "10.0.0.2", squash },
		{ clients: "2001:db8::2", squash },
		{ clients: "10.0.0.0/8" },
		{ clients: "unix" },
		{ clients: "::1" },
		{ clients: "10.0.0.1" },
	]);
});

test("a name without an address is refused with a sentence", async () => {
	for (const host of ["none", "unknown.example"])
		await assert.rejects(resolveClients([{ clients: "one" }, { clients: host }], resolve), new RegExp(`host ${host}: it has no address`));
	await assert.rejects(resolveListen([{ host: "unknown.example", port: 1 }], resolve), /Cannot listen at unknown\.example:1/);
});

test("an address to listen at is an IP address then, the first of its name", async () => {
	const listen = [{ host: "two.example", port: 5 }, { path: "/socket" }, { host: "::1", port: 6 }, { host: "127.0.0.1", port: 7 }];
	assert.deepEqual(await resolveListen(listen, resolve), [{ host: "10.0.0.2", port: 5 }, ...listen.slice(1)]);
});

test("localhost has addresses on every machine", async () => {
	const [address] = await resolveListen([{ host: "localhost", port: 1 }]);
	assert.match("host" in address ? address.host : "", /^(127\.|::1$)/);
});

test("names of hosts are told from addresses and from what is neither", () => {
	for (const name of ["host", "host-1.example.org", "a.b.", "10.example", "dead.beef", "_x.y"]) assert.ok(isHostName(name), name);
	for (const name of [
		"",
		"unix",
		"*",
		"*.example",
		"10.0.0.1",
		"10.0.0",
		"256.1.1.1",
		"::1",
		"a/b",
		"-a",
		".a",
		"a..b",
		"@group",
		"a b",
		"a%b",
	])
		assert.ok(!isHostName(name), name);
});
