import { sipKey } from "../../../src/handle/sip-hash.ts";
import { HANDLE_BYTES_MAX, HandleSigner, HEADER_BYTES, parseHandle, SIGNATURE_BYTES } from "../../../src/handle/wire-handle.ts";

/** Numbers of 0 up to a bound, the same ones for the same seed. */
export type Random = (bound: number) => number;

const HOME_AT = 8;
const TYPE_AT = 10;
const ID_LENGTH_AT = 11;
const KEY_AT = 1;
const EXPORT_AT = 4;

/** Handles that nobody was given, by how they were made. */
export type Forgeries = Map<string, Buffer[]>;

function bytes(random: Random, length: number): Buffer {
	return Buffer.from(Array.from({ length }, () => random(256)));
}

function flipped(handle: Buffer, ...bits: number[]): Buffer {
	const copy = Buffer.from(handle);
	for (const bit of bits) copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
	return copy;
}

function changed(handle: Buffer, at: number, value: number): Buffer {
	const copy = Buffer.from(handle);
	copy[at] = value;
	return copy;
}

/** Whatever can be made of one handle without its key; `others` are good handles of the same export. */
export function forgeriesOf(handle: Buffer, others: readonly Buffer[], twoBits: number, random: Random): Forgeries {
	const bits = handle.length * 8;
	const end = handle.length - SIGNATURE_BYTES;
	const forged: Forgeries = new Map();
	forged.set(
		"one bit flipped",
		Array.from({ length: bits }, (_, bit) => flipped(handle, bit)),
	);
	forged.set(
		"two bits flipped",
		Array.from({ length: twoBits }, () => {
			const first = random(bits);
			return flipped(handle, first, (first + 1 + random(bits - 1)) % bits);
		}),
	);
	forged.set("cut", Array.from({ length: handle.length }, (_, length) => [handle.subarray(0, length), handle.subarray(length + 1)]).flat());
	forged.set(
		"lengthened",
		Array.from({ length: 64 }, (_, i) => [
			Buffer.concat([handle, Buffer.alloc(i + 1)]),
			Buffer.concat([handle, bytes(random, i + 1)]),
			Buffer.concat([handle, Buffer.concat([handle, handle]).subarray(0, i + 1)]),
			// the id itself is longer, and the handle says so
			changed(
				Buffer.concat([handle.subarray(0, end), Buffer.alloc(i + 1), handle.subarray(end)]),
				ID_LENGTH_AT,
				(handle[ID_LENGTH_AT] as number) + i + 1,
			),
		]).flat(),
	);
	const fields: Buffer[] = [];
	for (let home = 0; home < 8; home++) if (handle.readUInt16BE(HOME_AT) !== home) fields.push(changed(handle, HOME_AT + 1, home));
	for (let type = 0; type < 256; type++) if (handle[TYPE_AT] !== type) fields.push(changed(handle, TYPE_AT, type));
	for (let key = 0; key < 256; key++) if (handle[KEY_AT] !== key) fields.push(changed(handle, KEY_AT, key));
	for (const other of others) {
		if (other.equals(handle)) continue;
		// the one's signature on the other's body, and the one's id behind the other's header
		fields.push(Buffer.concat([handle.subarray(0, end), other.subarray(-SIGNATURE_BYTES)]));
		fields.push(Buffer.concat([other.subarray(0, HEADER_BYTES), handle.subarray(HEADER_BYTES)]));
	}
	// objects of one home have one header
	forged.set(
		"with a field of another handle",
		fields.filter((made) => !made.equals(handle)),
	);
	return forged;
}

/** Fields that are right, or those of other objects, signed with keys that are not the export's; `secret` is its own. */
export function signedWrongly(handles: readonly Buffer[], secret: Buffer, random: Random): Forgeries {
	const wrong: Buffer[] = [Buffer.alloc(16), Buffer.alloc(16, 0xff), bytes(random, 16)];
	for (let bit = 0; bit < 128; bit++) wrong.push(flipped(secret, bit));
	const forged: Buffer[] = [];
	for (const handle of handles) {
		const fields = parseHandle(handle);
		if (fields === null) throw new Error("this is no handle");
		for (const other of wrong) {
			const signer = new HandleSigner(fields.exportId, new Map([[fields.keyId, sipKey(other)]]), fields.keyId);
			forged.push(signer.encode(fields.home, fields.id.type, fields.id.bytes));
		}
		// the right key under another number, and for another export
		const other = (fields.keyId % 255) + 1;
		const key = sipKey(secret);
		forged.push(new HandleSigner(fields.exportId, new Map([[other, key]]), other).encode(fields.home, fields.id.type, fields.id.bytes));
		const foreign = new HandleSigner((fields.exportId ^ 1) >>> 0, new Map([[fields.keyId, key]]), fields.keyId);
		forged.push(foreign.encode(fields.home, fields.id.type, fields.id.bytes));
	}
	return new Map([["signed with a wrong key", forged]]);
}

/** Noise of every length, and noise behind a header that is right. */
export function noise(handle: Buffer, each: number, random: Random): Forgeries {
	const plain: Buffer[] = [];
	const headed: Buffer[] = [];
	for (let length = 0; length <= HANDLE_BYTES_MAX; length++) {
		for (let i = 0; i < each; i++) {
			plain.push(bytes(random, length));
			if (length < HEADER_BYTES + SIGNATURE_BYTES) continue;
			const made = bytes(random, length);
			handle.copy(made, 0, 0, EXPORT_AT + 4);
			made.writeUInt16BE(1 + random(3), HOME_AT);
			made[ID_LENGTH_AT] = length - HEADER_BYTES - SIGNATURE_BYTES;
			headed.push(made);
		}
	}
	return new Map([
		["noise", plain],
		["noise behind a right header", headed],
	]);
}

export function merge(into: Forgeries, from: Forgeries): void {
	for (const [how, handles] of from) into.set(how, (into.get(how) ?? []).concat(handles));
}
