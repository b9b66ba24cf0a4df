// Networks parsed, and addresses in and outside of them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { contains, isLoopback, parseAddress, parseNetwork } from "./network.ts";

function isIn(address: string, network: string): boolean {
	const [parsed, bytes] = [parseNetwork(network), parseAddress(address)];
	assert.ok(parsed !== null && bytes !== null, `${address} ${network}`);
	return contains(parsed, bytes);
}

test("an address lies in a network exactly if the bits of the prefix agree", () => {
	for (const [address, network, expected] of [
		["10.1.2.3", "10.1.2.3", true],
		["10.1.2.4", "10.1.2.3", false],
		["10.255.0.1", "10.0.0.0/8", true],
		["11.0.0.1", "10.0.0.0/8", false],
		["192.168.5.127", "192.168.5.0/25", true],
		["192.168.5.128", "192.168.5.0/25", false],
		["192.168.7.1", "192.168.4.0/22", true],
		["192.168.8.1", "192.168.4.0/22", false],
		["1.2.3.4", "0.0.0.0/0", true],
		["2001:db8::1", "0.0.0.0/0", false],
		["1.2.3.4", "::/0", false],
		["2001:db8:1::5", "2001:db8::/32", true],
		["2001:db9::5", "2001:db8::/32", false],
		["2001:db8::1", "2001:db8::/127", true],
		["2001:db8::2", "2001:db8::/127", false],
		["fe80::1%eth0", "fe80::/10", true],
		["::ffff:10.1.2.3", "10.0.0.0/8", true],
		["10.1.2.3", "::ffff:10.1.2.3", true],
		["10.1.2.3", "::ffff:10.0.0.0/104", true],
		["11.1.2.3", "::ffff:10.0.0.0/104", false],
		["::ffff:7f00:1", "127.0.0.0/8", true],
		["::1", "::1", true],
		["::1", "::2", false],
	] as const) {
		assert.equal(isIn(address, network), expected, `${address} in ${network}`);
	}
});

test("all forms of one IPv6 address are the same bytes", () => {
	const bytes = parseAddress("2001:0db8:0000:0000:0000:0000:0a00:0001");
	for (const text of ["2001:db8::a00:1", "2001:DB8:0:0:0:0:A00:1", "2001:db8::10.0.0.1", "2001:db8:0:0::a00:1"])
		assert.deepEqual(parseAddress(text), bytes, text);
});

test("what is no address or network is refused", () => {
	for (const text of [
		"",
		"host",
		"1.2.3",
		"1.2.3.4.5",
		"1.2.3.256",
		"01.2.3.4",
		"1.2.3.4/33",
		"1.2.3.4/24",
		"1.2.3.0/",
		"1.2.3.0/x",
		":",
		":::",
		"1::2::3",
		"1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9",
		"1:2:3:4:5:6:7::8",
		"12345::",
		"::1.2.3",
		"1.2.3.4::",
		"2001:db8::/129",
		"2001:db8::1/64",
		"::ffff:10.0.0.0/95",
		"::ffff:10.0.0.1/104",
		"fe80::1%eth0",
		"fe80::%eth0/64",
	]) {
		assert.equal(parseNetwork(text), null, text);
	}
});

test("addresses of the loopback interface", () => {
	for (const address of ["127.0.0.1", "127.255.255.254", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"])
		assert.ok(isLoopback(address), address);
	for (const address of ["126.0.0.1", "128.0.0.1", "0.0.0.0", "::", "::2", "fe80::1", "localhost", "unix", ""])
		assert.ok(!isLoopback(address), address);
});
