// Rules for clients: which of them counts, and what is refused in writing them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AllowedClients, CLIENT_RULES_MAX } from "./allowed-clients.ts";

test("without rules everybody is allowed, and may change", () => {
	const clients = new AllowedClients([]);
	for (const peer of ["10.0.0.1", "::1", "unix", ""]) assert.equal(clients.ruleFor(peer)?.readOnly ?? false, false);
});

test("with rules nobody else is allowed", () => {
	const clients = new AllowedClients([{ clients: "10.0.0.0/8" }, { clients: "2001:db8::/32" }]);
	for (const peer of ["10.1.2.3", "2001:db8::7"]) assert.notEqual(clients.ruleFor(peer), null, peer);
	for (const peer of ["11.0.0.1", "2001:db9::7", "unix", ""]) assert.equal(clients.ruleFor(peer), null, peer);
});

test("the closest rule holds, whatever the order; of equals the first", () => {
	const rules = [
		{ clients: "*", readOnly: true },
		{ clients: "10.0.0.0/8", squash: { allSquash: true } },
		{ clients: "10.1.0.0/16" },
		{ clients: "10.1.2.3", readOnly: true },
		{ clients: "10.1.2.3", readOnly: false },
		{ clients: "unix" },
	];
	const expected: [string, number][] = [
		["9.9.9.9", 0],
		["::1", 0],
		["10.9.9.9", 1],
		["10.1.9.9", 2],
		["10.1.2.3", 3],
		["unix", 5],
	];
	const reversed = new AllowedClients([...rules].reverse());
	for (const [peer, rule] of expected) {
		assert.equal(new AllowedClients(rules).ruleFor(peer), rules[rule], peer);
		if (peer !== "10.1.2.3") assert.equal(reversed.ruleFor(peer), rules[rule], peer);
	}
	assert.equal(reversed.ruleFor("10.1.2.3"), rules[4]);
});

test("a rule that names no clients is refused with a sentence, and so are too many", () => {
	for (const clients of ["", "host.example", "10.0.0.1/8", "*.example"])
		assert.throws(() => new AllowedClients([{ clients }]), /names no clients/);
	const rules = Array.from({ length: CLIENT_RULES_MAX + 1 }, () => ({ clients: "*" }));
	assert.throws(() => new AllowedClients(rules), /at most/);
	assert.ok(new AllowedClients(rules.slice(1)));
});
