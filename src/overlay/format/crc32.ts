/** CRC-32 as in ISO 3309 and zlib. Node has one of its own from version 22 on. */
const TABLE = new Uint32Array(256);

for (let i = 0; i < 256; i++) {
	let value = i;
	for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
	TABLE[i] = value >>> 0;
}

export function crc32(bytes: Uint8Array, start = 0, end: number = bytes.length): number {
	let crc = 0xffffffff;
	for (let i = start; i < end; i++) crc = TABLE[(crc ^ bytes[i]) & 0xff] ^ (crc >>> 8);
	return (crc ^ 0xffffffff) >>> 0;
}
