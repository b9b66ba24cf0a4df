// Records and identities byte by byte, as the kernel writes them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { noise } from "../../../test/support/lower-tree.ts";
import { decodeIdentity, decodeRecord, encodeIdentity, encodeRecord } from "./identity.ts";

const ZERO_UUID = Buffer.alloc(16);
const UUID = Buffer.from("d0276a80dca942108bc5c5af6555469a", "hex");
/** Linux 6.18 wrote these on an ext4: version, magic, length, flags, type, uuid of the file system, inode and generation. */
const KERNEL_ORIGIN = Buffer.from("00fb1d0001d0276a80dca942108bc5c5af6555469a0e00000072e4219f", "hex");
const ORIGIN_ID = Buffer.from("0e00000072e4219f", "hex");
/** The xattr `upper` of an index directory: the flag says that it names an upper object. */
const KERNEL_UPPER = Buffer.from("00fb1d0401d0276a80dca942108bc5c5af6555469a0108000063521530", "hex");
const UPPER_ID = Buffer.from("0108000063521530", "hex");

test("records are, byte by byte, as the kernel writes them", () => {
	assert.equal(encodeRecord(UUID, { type: 1, bytes: ORIGIN_ID }, false).toString("hex"), KERNEL_ORIGIN.toString("hex"));
	assert.equal(encodeRecord(UUID, { type: 1, bytes: UPPER_ID }, true).toString("hex"), KERNEL_UPPER.toString("hex"));
	// on a file system without a uuid, as root's may be
	const nameless = `00fb1d0001${"00".repeat(16)}0e00000072e4219f`;
	assert.equal(encodeRecord(ZERO_UUID, { type: 1, bytes: ORIGIN_ID }, false).toString("hex"), nameless);
	assert.deepEqual(decodeRecord(Buffer.from(nameless, "hex"), ZERO_UUID), { type: 1, bytes: ORIGIN_ID });
});

test("the kernel's records are understood", () => {
	assert.deepEqual(decodeRecord(KERNEL_ORIGIN, UUID), { type: 1, bytes: ORIGIN_ID });
	assert.deepEqual(decodeRecord(KERNEL_UPPER, UUID), { type: 1, bytes: UPPER_ID });
	// btrfs: type 0x4d, and five words
	const btrfs = Buffer.from(`00fb29004d${UUID.toString("hex")}${"ab".repeat(20)}`, "hex");
	assert.deepEqual(decodeRecord(btrfs, UUID), { type: 0x4d, bytes: Buffer.alloc(20, 0xab) });
});

test("a record of any byte order is understood, as the kernel does", () => {
	const any = Buffer.from(KERNEL_ORIGIN);
	any[3] = 2;
	assert.deepEqual(decodeRecord(any, UUID), { type: 1, bytes: ORIGIN_ID });
});

test("a record that is cut anywhere, or longer than it says, is not understood", () => {
	for (let length = 0; length < KERNEL_ORIGIN.length; length++) assert.equal(decodeRecord(KERNEL_ORIGIN.subarray(0, length), UUID), null);
	assert.equal(decodeRecord(Buffer.concat([KERNEL_ORIGIN, Buffer.alloc(1)]), UUID), null);
});

test("a record of another version, magic, byte order, or with a flag that is not known, is not understood", () => {
	const changed = (at: number, value: number) => {
		const record = Buffer.from(KERNEL_ORIGIN);
		record[at] = value;
		return record;
	};
	assert.equal(decodeRecord(changed(0, 1), UUID), null);
	assert.equal(decodeRecord(changed(1, 0xfa), UUID), null);
	assert.equal(decodeRecord(changed(2, 28), UUID), null);
	for (const flag of [1, 8, 16, 32, 64, 128, 5, 0xff]) assert.equal(decodeRecord(changed(3, flag), UUID), null, `flag ${flag}`);
});

test("a record of another file system is not understood", () => {
	for (let byte = 0; byte < 16; byte++) {
		const uuid = Buffer.from(UUID);
		uuid[byte] ^= 1;
		assert.equal(decodeRecord(KERNEL_ORIGIN, uuid), null);
	}
});

test("an identity says what was put into it: its layout is version, uuid of the home, type and id", () => {
	const value = encodeIdentity(UUID, { type: 0x81, bytes: UPPER_ID });
	assert.equal(value.toString("hex"), `01${UUID.toString("hex")}81${UPPER_ID.toString("hex")}`);
	for (const length of [1, 8, 12, 20, 40]) {
		const [homeUuid, bytes] = [noise(16, length + 1), noise(length, length + 2)];
		assert.deepEqual(decodeIdentity(encodeIdentity(homeUuid, { type: 1, bytes })), { homeUuid, id: { type: 1, bytes } });
	}
});

test("what is no identity is none: cut, empty or of another version", () => {
	const value = encodeIdentity(UUID, { type: 1, bytes: UPPER_ID });
	for (let length = 0; length <= 18; length++) assert.equal(decodeIdentity(value.subarray(0, length)), null);
	const other = Buffer.from(value);
	other[0] = 2;
	assert.equal(decodeIdentity(other), null);
	assert.equal(decodeIdentity(KERNEL_ORIGIN), null);
});
