/** vfs_cap_data of revision 2: CAP_NET_BIND_SERVICE, effective. */
export const CAPABILITY = Buffer.from("0100000200040000000000000000000000000000", "hex");

const TAGS: Readonly<Record<string, readonly [owning: number, named: number]>> = { u: [1, 2], g: [4, 8], m: [0x10, 0], o: [0x20, 0] };

/** struct posix_acl_xattr of version 2, from text as `u::7 u:1000:6 g::5 m::7 o::4`. */
export function posixAcl(text: string): Buffer {
	const entries = text.split(" ").map((entry) => entry.split(":"));
	const bytes = Buffer.alloc(4 + entries.length * 8);
	bytes.writeUInt32LE(2, 0);
	for (const [i, [tag, id, permissions]] of entries.entries()) {
		bytes.writeUInt16LE(TAGS[tag][id === "" ? 0 : 1], 4 + i * 8);
		bytes.writeUInt16LE(Number(permissions), 6 + i * 8);
		bytes.writeInt32LE(id === "" ? -1 : Number(id), 8 + i * 8);
	}
	return bytes;
}
