/**
 * Values as bytes: what JSON can say, with byte arrays, and several times as fast. Each value is a tag and what follows it; words that are
 * used often are numbers. Used for intents, which are written at every change and read after a kill, by the version that wrote them.
 */
const TAG = {
	null: 0,
	false: 1,
	true: 2,
	u32: 3,
	double: 4,
	string: 5,
	bytes: 6,
	array: 7,
	object: 8,
	word: 9,
	u8: 10,
	u16: 11,
	shortString: 12,
	shortBytes: 13,
	shortArray: 14,
	record: 15,
} as const;
/** A byte from here on is a tag and a number of 0 to 127 in one. */
const SMALL = 0x80;
const SHORT_BYTES_MAX = 255;

/** Never to be put into another order: only added to. */
const WORDS = [
	"sequence",
	"request",
	"handle",
	"steps",
	"client",
	"xid",
	"program",
	"version",
	"procedure",
	"length",
	"checksumHi",
	"checksumLo",
	"op",
	"inode",
	"type",
	"bytes",
	"from",
	"fromName",
	"to",
	"toName",
	"flags",
	"in",
	"name",
	"value",
	"change",
	"atime",
	"mtime",
	"sec",
	"nsec",
	"entry",
	"mode",
	"uid",
	"gid",
	"size",
	"xattr",
	"now",
	"work",
	"index",
	"orphans",
	"move",
	"link",
	"whiteout",
	"unlink",
	"unlinkWhiteout",
	"attributes",
	"times",
	"count",
	"unnamed",
	"make",
	"isOpaque",
	"where",
	"forget",
	"above",
	"id",
	"mark",
	"unmark",
	"record",
	"trash",
	"base",
] as const;
const NUMBERS: ReadonlyMap<string, number> = new Map(WORDS.map((word, i) => [word, i]));

const START_BYTES = 64 * 1024;
let bytes = Buffer.alloc(START_BYTES);
let at = 0;

/** A view of memory that the next call uses again; `head` bytes before it are left to the caller. */
export function encodeCompact(value: unknown, head: number): Buffer {
	at = head;
	put(value);
	return bytes.subarray(0, at);
}

function room(size: number): void {
	if (at + size <= bytes.length) return;
	const larger = Buffer.alloc((at + size) * 2);
	bytes.copy(larger);
	bytes = larger;
}

function put(value: unknown): void {
	room(16);
	switch (typeof value) {
		case "number":
			if (value >>> 0 === value) {
				if (value < SMALL) {
					bytes[at++] = SMALL | value;
				} else if (value <= 0xff) {
					bytes[at++] = TAG.u8;
					bytes[at++] = value;
				} else if (value <= 0xffff) {
					bytes[at++] = TAG.u16;
					at = bytes.writeUInt16LE(value, at);
				} else {
					bytes[at++] = TAG.u32;
					at = bytes.writeUInt32LE(value, at);
				}
			} else {
				bytes[at++] = TAG.double;
				at = bytes.writeDoubleLE(value, at);
			}
			return;
		case "string":
			putString(value);
			return;
		case "boolean":
			bytes[at++] = value ? TAG.true : TAG.false;
			return;
		case "object":
			if (value === null) bytes[at++] = TAG.null;
			else if (value instanceof Uint8Array) putBytes(value);
			else if (Array.isArray(value)) {
				putLength(value.length, TAG.shortArray, TAG.array);
				for (const item of value) put(item);
			} else putObject(value as Record<string, unknown>);
			return;
		default:
			throw new TypeError(`A ${typeof value} has no compact form`);
	}
}

function putString(text: string): void {
	const word = NUMBERS.get(text);
	if (word !== undefined) {
		bytes[at++] = TAG.word;
		bytes[at++] = word;
		return;
	}
	const length = Buffer.byteLength(text);
	room(5 + length);
	putLength(length, TAG.shortString, TAG.string);
	at += bytes.write(text, at);
}

function putBytes(value: Uint8Array): void {
	room(5 + value.length);
	putLength(value.length, TAG.shortBytes, TAG.bytes);
	bytes.set(value, at);
	at += value.length;
}

function putLength(length: number, shortTag: number, tag: number): void {
	if (length <= SHORT_BYTES_MAX) {
		bytes[at++] = shortTag;
		bytes[at++] = length;
		return;
	}
	bytes[at++] = tag;
	at = bytes.writeUInt32LE(length, at);
}

/** Fields that are undefined are left out. Where all keys are words these stand without their tag. */
function putObject(value: Record<string, unknown>): void {
	const tagAt = at++;
	const countAt = at++;
	let count = 0;
	let isRecord = true;
	for (const key in value) if (!NUMBERS.has(key)) isRecord = false;
	bytes[tagAt] = isRecord ? TAG.record : TAG.object;
	for (const key in value) {
		const field = value[key];
		if (field === undefined) continue;
		if (isRecord) {
			room(16);
			bytes[at++] = NUMBERS.get(key) as number;
		} else putString(key);
		put(field);
		count++;
	}
	bytes[countAt] = count;
}

function objectOf(count: number, takeKey: () => unknown, takeValue: () => unknown): Record<string, unknown> {
	const fields: [string, unknown][] = [];
	for (let i = 0; i < count; i++) {
		const key = takeKey();
		if (typeof key !== "string") throw new RangeError("A key is no string");
		fields.push([key, takeValue()]);
	}
	return Object.fromEntries(fields);
}

/** What was encoded. Throws RangeError where the bytes are not that. */
export function decodeCompact(from: Buffer, start: number): unknown {
	let next = start;
	const length = (): number => {
		const size = from.readUInt32LE(next);
		next += 4;
		if (size > from.length - next) throw new RangeError("A value ends behind the bytes");
		return size;
	};
	const shortLength = (): number => {
		const size = from.readUInt8(next++);
		if (size > from.length - next) throw new RangeError("A value ends behind the bytes");
		return size;
	};
	const word = (): string => {
		const known = WORDS[from.readUInt8(next++)];
		if (known === undefined) throw new RangeError("A word is not known");
		return known;
	};
	const take = (): unknown => {
		const tag = from.readUInt8(next++);
		if (tag >= SMALL) return tag - SMALL;
		switch (tag) {
			case TAG.null:
				return null;
			case TAG.false:
			case TAG.true:
				return tag === TAG.true;
			case TAG.u32:
				next += 4;
				return from.readUInt32LE(next - 4);
			case TAG.u8:
				return from.readUInt8(next++);
			case TAG.u16:
				next += 2;
				return from.readUInt16LE(next - 2);
			case TAG.double:
				next += 8;
				return from.readDoubleLE(next - 8);
			case TAG.word:
				return word();
			case TAG.shortString:
			case TAG.string: {
				const size = tag === TAG.string ? length() : shortLength();
				next += size;
				return from.toString("utf8", next - size, next);
			}
			case TAG.shortBytes:
			case TAG.bytes: {
				const size = tag === TAG.bytes ? length() : shortLength();
				next += size;
				return Buffer.from(from.subarray(next - size, next));
			}
			case TAG.shortArray:
			case TAG.array:
				return Array.from({ length: tag === TAG.array ? length() : shortLength() }, take);
			case TAG.record:
			case TAG.object:
				return objectOf(from.readUInt8(next++), tag === TAG.record ? word : take, take);
			default:
				throw new RangeError(`There is no tag ${tag}`);
		}
	};
	return take();
}
