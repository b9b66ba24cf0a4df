/**
 * Values as bytes: what JSON can say, with byte arrays, and several times as fast. Each value is a tag and what follows it; words that are
 * used often are numbers. Used for intents, which are written at every change and read after a kill, by the version that wrote them.
 */
const TAG = { null: 0, false: 1, true: 2, u32: 3, double: 4, string: 5, bytes: 6, array: 7, object: 8, word: 9 } as const;

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
				bytes[at++] = TAG.u32;
				at = bytes.writeUInt32LE(value, at);
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
				bytes[at++] = TAG.array;
				at = bytes.writeUInt32LE(value.length, at);
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
	bytes[at++] = TAG.string;
	at = bytes.writeUInt32LE(length, at);
	at += bytes.write(text, at);
}

function putBytes(value: Uint8Array): void {
	room(5 + value.length);
	bytes[at++] = TAG.bytes;
	at = bytes.writeUInt32LE(value.length, at);
	bytes.set(value, at);
	at += value.length;
}

/** Fields that are undefined are left out. */
function putObject(value: Record<string, unknown>): void {
	bytes[at++] = TAG.object;
	const countAt = at++;
	let count = 0;
	for (const key in value) {
		const field = value[key];
		if (field === undefined) continue;
		putString(key);
		put(field);
		count++;
	}
	bytes[countAt] = count;
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
	const take = (): unknown => {
		const tag = from.readUInt8(next++);
		switch (tag) {
			case TAG.null:
				return null;
			case TAG.false:
			case TAG.true:
				return tag === TAG.true;
			case TAG.u32:
				next += 4;
				return from.readUInt32LE(next - 4);
			case TAG.double:
				next += 8;
				return from.readDoubleLE(next - 8);
			case TAG.word: {
				const word = WORDS[from.readUInt8(next++)];
				if (word === undefined) throw new RangeError("A word is not known");
				return word;
			}
			case TAG.string: {
				const size = length();
				next += size;
				return from.toString("utf8", next - size, next);
			}
			case TAG.bytes: {
				const size = length();
				next += size;
				return Buffer.from(from.subarray(next - size, next));
			}
			case TAG.array:
				return Array.from({ length: length() }, take);
			case TAG.object: {
				const count = from.readUInt8(next++);
				const fields: [string, unknown][] = [];
				for (let i = 0; i < count; i++) {
					const key = take();
					if (typeof key !== "string") throw new RangeError("A key is no string");
					fields.push([key, take()]);
				}
				return Object.fromEntries(fields);
			}
			default:
				throw new RangeError(`There is no tag ${tag}`);
		}
	};
	return take();
}
