// Networks of IP addresses: parsing them, and whether an address lies in one.

/** The addresses that agree with `bytes` in their first `bits` bits. IPv4 addresses are 4 bytes, IPv6 ones 16. */
export interface Network {
	readonly bytes: Uint8Array;
	readonly bits: number;
}

/** The bytes of an IP address; null when it is none. A zone (RFC 4007) is left out; an IPv4 address in IPv6 (::ffff:a.b.c.d) is the IPv4 one. */
export function parseAddress(text: string): Uint8Array | null {
	if (!text.includes(":")) return parseIpv4(text);
	const zone = text.indexOf("%");
	const bytes = parseIpv6(zone < 0 ? text : text.slice(0, zone));
	return bytes !== null && isMapped(bytes) ? bytes.subarray(12) : bytes;
}

/**
 * ADDRESS or ADDRESS/BITS (RFC 4632, RFC 4291 section 2.3); null when it is none, or when bits beyond the prefix are set. No zone: the
 * network would hold on every link, which is not what was written. ::ffff:a.b.c.d/120 is a.b.c.d/24.
 */
export function parseNetwork(text: string): Network | null {
	const match = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(text);
	const bytes = match === null ? null : parseAddress(match[1]);
	if (match === null || bytes === null) return null;
	const before = bytes.length === 4 && match[1].includes(":") ? 96 : 0;
	const bits = match[2] === undefined ? bytes.length * 8 : Number(match[2]) - before;
	if (bits < 0 || bits > bytes.length * 8) return null;
	for (let bit = bits; bit < bytes.length * 8; bit++) if ((bytes[bit >> 3] & (0x80 >> (bit & 7))) !== 0) return null;
	return { bytes, bits };
}

export function contains(network: Network, address: Uint8Array): boolean {
	const { bytes, bits } = network;
	if (bytes.length !== address.length) return false;
	const whole = bits >> 3;
	for (let i = 0; i < whole; i++) if (bytes[i] !== address[i]) return false;
	return (bits & 7) === 0 || (bytes[whole] ^ address[whole]) >> (8 - (bits & 7)) === 0;
}

/** Whether an address is one of the loopback interface: 127.0.0.0/8, ::1. */
export function isLoopback(address: string): boolean {
	const bytes = parseAddress(address);
	return bytes !== null && LOOPBACK.some((network) => contains(network, bytes));
}

const LOOPBACK: readonly Network[] = [
	{ bytes: Uint8Array.of(127, 0, 0, 0), bits: 8 },
	{ bytes: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1), bits: 128 },
];

function parseIpv4(text: string): Uint8Array | null {
	const parts = text.split(".");
	if (parts.length !== 4) return null;
	const bytes = new Uint8Array(4);
	for (const [i, part] of parts.entries()) {
		// a leading zero means octal to some and nothing to others
		if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
		bytes[i] = Number(part);
	}
	return bytes;
}

function parseIpv6(text: string): Uint8Array | null {
	const halves = text.split("::");
	if (halves.length > 2) return null;
	const head = groups(halves[0], halves.length === 1);
	const tail = halves.length === 2 ? groups(halves[1], true) : [];
	if (head === null || tail === null) return null;
	const missing = 16 - head.length - tail.length;
	if (halves.length === 2 ? missing < 2 : missing !== 0) return null;
	const bytes = new Uint8Array(16);
	bytes.set(head);
	bytes.set(tail, 16 - tail.length);
	return bytes;
}

/** The bytes of groups of 16 bits with colons between them; the last two of an address may be written as an IPv4 address. */
function groups(text: string, isEnd: boolean): number[] | null {
	const bytes: number[] = [];
	if (text === "") return bytes;
	const parts = text.split(":");
	for (const [i, part] of parts.entries()) {
		const ipv4 = isEnd && i === parts.length - 1 && part.includes(".") ? parseIpv4(part) : null;
		if (ipv4 !== null) {
			bytes.push(...ipv4);
			continue;
		}
		if (!/^[0-9a-f]{1,4}$/i.test(part)) return null;
		const group = Number.parseInt(part, 16);
		bytes.push(group >> 8, group & 0xff);
	}
	return bytes.length > 16 ? null : bytes;
}

function isMapped(bytes: Uint8Array): boolean {
	for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false;
	return bytes[10] === 0xff && bytes[11] === 0xff;
}
