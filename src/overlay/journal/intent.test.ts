// The intent is found as it was written, wherever it stands, and the one before it until it is whole.

import assert from "node:assert/strict";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../../test/support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../../../test/support/scratch.ts";
import { interceptChanges } from "../../linux/libc.ts";
import { getXattrOfOpen, setXattrOfOpen } from "../../linux/xattr.ts";
import { crc32 } from "../format/crc32.ts";
import { encodeCompact } from "./compact.ts";
import { type Intent, IntentStore, readIntent } from "./intent.ts";

const KINDS = ["ext4", "xfs", "btrfs", "tmpfs"] as const;

function folderOn(context: TestContext, kind: FileSystem): string {
	const folder = join(scratch(context).mount(kind, kind, kind === "ext4" || kind === "tmpfs" ? 32 : 320), "holdfast");
	mkdirSync(folder);
	return folder;
}

/** An intent whose name has so many bytes. */
function intentOf(sequence: number, length: number): Intent {
	return {
		sequence,
		key: { request: { owner: "192.0.2.1", numbers: [sequence, 100003, 3, 8, 128, 0x89abcdef, 0xfedcba98] }, change: 0 },
		handle: length % 2 === 0 ? null : Buffer.from("a handle"),
		steps: [{ op: "count", entry: "e".repeat(length), value: sequence }],
	};
}

const LENGTHS = [0, 1, 11, 30, 64, 90, 128, 140, 150, 160, 180, 250, 1500, 1990, 5000, 3];

function assertFound(folder: string, { sequence, key, handle, steps }: Intent, hasEnded = false): void {
	const found = readIntent(folder);
	assert.ok(found !== null);
	assert.equal(found.sequence, sequence);
	assert.equal(found.hasEnded, hasEnded);
	if (!hasEnded) assert.deepEqual({ key: found.key, handle: found.handle, steps: found.steps }, { key, handle, steps });
}

for (const kind of KINDS) {
	const options = { skip: needs("root") || cannotMount(kind) };

	test(`on ${kind} an intent of any length is found again, and that it has ended, over restarts`, options, (t) => {
		const folder = folderOn(t, kind);
		assert.equal(readIntent(folder), null);
		for (const isTrusted of [true, false]) {
			let sequence = isTrusted ? 0 : 1000;
			for (const [i, length] of LENGTHS.entries()) {
				const store = new IntentStore(folder);
				const before = store.open(kind, isTrusted);
				assert.equal(before?.sequence ?? 0, sequence === 1000 ? LENGTHS.length * 2 : sequence);
				for (const each of [LENGTHS[(i + 5) % LENGTHS.length], length]) {
					const intent = intentOf(++sequence, each);
					store.write(intent);
					assertFound(folder, intent);
				}
				if (i % 2 === 0) {
					store.end(sequence);
					assertFound(folder, intentOf(sequence, length), true);
				}
				store.close();
			}
		}
	});

	test(`on ${kind} an intent that was not written whole leaves the one before it`, options, (t) => {
		const folder = folderOn(t, kind);
		const store = new IntentStore(folder);
		store.open(kind, true);
		let sequence = 1;
		store.write(intentOf(sequence, 20));
		for (const length of LENGTHS.filter((length) => length <= 150)) {
			for (let calls = 0; ; calls++) {
				const [before, next] = [intentOf(sequence, 20), intentOf(sequence + 1, length)];
				let left = calls;
				interceptChanges(() => {
					if (left-- === 0) throw new Error("killed");
				});
				let isWhole = true;
				try {
					store.write(next);
				} catch {
					isWhole = false;
				} finally {
					interceptChanges(null);
				}
				// tmpfs has it in a file, which is one call
				assertFound(folder, isWhole ? next : before);
				sequence += 2;
				store.write(intentOf(sequence, 20));
				if (isWhole) break;
			}
		}
		store.close();
	});
}

test("on ext4 the files of the slots lie in one block of the inode table, have no blocks, and stay", {
	skip: needs("root") || cannotMount("ext4"),
}, (t) => {
	const folder = folderOn(t, "ext4");
	const store = () => {
		const made = new IntentStore(folder);
		made.open("ext4", true);
		return made;
	};
	const first = store();
	first.write(intentOf(1, 140));
	first.write(intentOf(2, 140));
	const files = () => readdirSync(join(folder, "intents")).map((name) => statSync(join(folder, "intents", name)));
	const inodes = files().map(({ ino }) => ino);
	assert.equal(new Set(inodes.map((ino) => Math.floor((ino - 1) / 16))).size, 1);
	assert.deepEqual(new Set(files().map(({ blocks }) => blocks)), new Set([0]));
	first.close();
	const second = store();
	assert.deepEqual(
		files().map(({ ino }) => ino),
		inodes,
	);
	// an incomplete set, as a crash leaves it while it is made, is made again
	second.close();
	rmSync(join(folder, "intents/3"));
	const third = store();
	third.write(intentOf(7, 3));
	assertFound(folder, intentOf(7, 3));
	assert.equal(files().length, inodes.length);
	third.close();
});

test("on ext4 whoever asks first is given a file whose inode lies beside the slots, over a restart too", {
	skip: needs("root") || cannotMount("ext4"),
}, (t) => {
	const folder = folderOn(t, "ext4");
	const before = new IntentStore(folder);
	before.open("ext4", true);
	before.close();
	const store = new IntentStore(folder);
	store.open("ext4", true);
	const [first, second] = ["first", "second"].map((name) => join(folder, name));
	store.giveSpare(first);
	store.giveSpare(second);
	const blockOf = (path: string) => Math.floor((statSync(path).ino - 1) / 16);
	assert.equal(blockOf(first), blockOf(join(folder, "intents/0")));
	assert.equal(statSync(first).size, 0);
	assert.deepEqual(readdirSync(folder).includes("second"), false);
	store.close();
});

test("an intent of former versions, in the xattr or the file, is found until a newer one is written", {
	skip: needs("root") || cannotMount("ext4"),
}, (t) => {
	for (const place of ["xattr", "file"]) {
		const folder = folderOn(t, "ext4");
		const intent = intentOf(5, 4);
		const { key, ...rest } = intent;
		const request = key === null ? null : [key.request.owner, key.change, ...key.request.numbers];
		const bytes = Buffer.from(encodeCompact({ ...rest, request }, 12));
		bytes.fill(0, 0, 4);
		bytes[0] = 0x1e;
		bytes.writeUInt32LE(bytes.length - 12, 4);
		bytes.writeUInt32LE(crc32(bytes, 12), 8);
		const path = join(folder, "intent");
		writeFileSync(path, place === "file" ? bytes : "");
		const file = openSync(path, "r+");
		if (place === "xattr") assert.equal(setXattrOfOpen(file, "trusted.holdfast.intent", bytes), 0);
		closeSync(file);
		assertFound(folder, intent);
		const store = new IntentStore(folder);
		assert.equal(store.open("ext4", true)?.sequence, 5);
		store.end(5);
		assertFound(folder, intent, true);
		store.write(intentOf(6, 9));
		assertFound(folder, intentOf(6, 9));
		store.close();
	}
});

test("no flipped bit of an intent says that it has ended, or has not", { skip: needs("root") || cannotMount("ext4") }, (t) => {
	// in a slot, in the xattr, and in the file
	for (const size of [20, 600, 4000]) {
		const intent = intentOf(5, size);
		for (const isEnded of [false, true]) {
			const folder = folderOn(t, "ext4");
			const store = new IntentStore(folder);
			store.open("ext4", true);
			store.write(intent);
			if (isEnded) store.end(5);
			store.close();
			for (const [name, xattr] of [
				...Array.from({ length: 8 }, (_, part) => [`intents/${part}`, "trusted.holdfast"]),
				["intent", "trusted.holdfast.intent"],
				["intent", ""],
			] as const) {
				const file = openSync(join(folder, name), "r+");
				const bytes = xattr === "" ? readFileSync(file) : getXattrOfOpen(file, xattr);
				const put = (changed: Buffer) =>
					xattr === "" ? writeSync(file, changed, 0, changed.length, 0) : setXattrOfOpen(file, xattr, changed);
				for (let bit = 0; Buffer.isBuffer(bytes) && bit < 8 * Math.min(bytes.length, 24); bit++) {
					const changed = Buffer.from(bytes);
					changed[bit >> 3] ^= 1 << (bit & 7);
					put(changed);
					const found = readIntent(folder);
					// it may count as never written, as one that was not written whole
					if (found?.sequence === 5) assert.equal(found.hasEnded, isEnded, `bit ${bit} of ${name} ${xattr}, ${size} bytes`);
					put(bytes);
				}
				closeSync(file);
			}
		}
	}
});
