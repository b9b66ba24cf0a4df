// Writes tar archives block for block, with whatever nonsense a test asks for.

export interface RawEntry {
	readonly name: string | Buffer;
	/** The type flag of tar(5): "0" a file, "1" a hard link, "2" a symlink, "3" and "4" devices, "5" a directory, "6" a fifo. */
	readonly type?: string;
	readonly data?: string | Buffer;
	readonly link?: string | Buffer;
	readonly device?: readonly [major: number, minor: number];
	readonly mode?: number;
	readonly uid?: number;
	readonly gid?: number;
	/** Seconds; a negative one in base-256. */
	readonly mtime?: number;
	/** Eight bytes from offset 257 on, "" for the oldest form; ustar if absent. */
	readonly magic?: string;
	/** Of the header, if it shall not be that of the data. */
	readonly size?: number;
	readonly pax?: Readonly<Record<string, string | Buffer>>;
}

/** One entry, block for block, with whatever nonsense is asked for. */
export function raw({
	name,
	type = "0",
	data = "",
	link = "",
	device = [0, 0],
	mode = 0o644,
	uid = 0,
	gid = 0,
	mtime = 1_000_000_000,
	magic = "ustar\x0000",
	size,
	pax,
}: RawEntry): Buffer {
	const content = Buffer.from(data as string);
	const header = Buffer.alloc(512);
	const octal = (value: number, at: number, digits: number) => header.write(value.toString(8).padStart(digits, "0"), at, "latin1");
	Buffer.from(name as string).copy(header, 0, 0, 100);
	octal(mode, 100, 7);
	octal(uid, 108, 7);
	octal(gid, 116, 7);
	octal(size ?? content.length, 124, 11);
	if (mtime >= 0) octal(mtime, 136, 11);
	else {
		header.fill(0xff, 136, 144);
		header.writeInt32BE(mtime, 144);
	}
	header.write(type, 156, "latin1");
	Buffer.from(link as string).copy(header, 157, 0, 100);
	header.write(magic, 257, "latin1");
	octal(device[0], 329, 7);
	octal(device[1], 337, 7);
	header.fill(" ", 148, 156);
	octal(
		header.reduce((sum, byte) => sum + byte, 0),
		148,
		6,
	);
	header[154] = 0;
	const body = Buffer.concat([content, Buffer.alloc(-content.length & 511)]);
	const records = pax === undefined ? [] : [raw({ name: "PaxHeader", type: "x", data: paxRecords(pax) })];
	return Buffer.concat([...records, header, body]);
}

export function paxRecords(pax: Readonly<Record<string, string | Buffer>>): Buffer {
	return Buffer.concat(
		Object.entries(pax).map(([key, value]) => {
			const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value as string), Buffer.from("\n")]);
			let length = rest.length + 1;
			while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length;
			return Buffer.concat([Buffer.from(`${length}`), rest]);
		}),
	);
}

/** The end mark. */
export const END = Buffer.alloc(1024);
