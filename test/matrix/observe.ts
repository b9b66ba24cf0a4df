import { allocate } from "../../src/linux/memory.ts";
import type { Node } from "../../src/overlay/nodes/node.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { type Attributes, FileType } from "../../src/vfs/operations.ts";
import { bytes, ROOT } from "../crash/stage.ts";

/** What a client sees of one object. */
export interface Seen {
	/** In hex. */
	readonly handle: string;
	readonly fileid: string;
	readonly type: string;
	readonly mode: number;
	readonly owner: string;
	readonly nlink: number;
	/** Text of a file, target of a symlink, numbers of a device. */
	readonly content: string;
	readonly xattrs: string;
	readonly mtime: string;
}

/** By path; the root is "". */
export type Tree = ReadonlyMap<string, Seen>;

/** Where an entry stands in its directory's listing, by name. */
export type Cookies = ReadonlyMap<string, string>;

const TYPES = new Map(Object.entries(FileType).map(([name, number]) => [number as number, name]));
const buffer = allocate(4096);

/** Something that contradicts the contract whatever was done before. */
export class Contradiction extends Error {}

/** Does a step of what a front end does, again and again until nothing has to be waited for. */
export type Settle = <T>(step: () => T) => Promise<T>;

/** Entries of one request. */
const PAGE = 32;

/**
 * Lists and reads the directories that are inside, and in them what is to be seen. Look-up, listing, `..` and the handle must agree on
 * every object. Each request is a step of its own, and a listing goes on by its cookie: a walk that began anew at each wait would not end.
 */
export async function observe(
	overlay: Overlay,
	settle: Settle,
	isInside: (path: string) => boolean,
	isSeen: (path: string) => boolean,
): Promise<Tree> {
	const tree = new Map<string, Seen>();
	const visit = async (path: string, handle: Buffer): Promise<void> => {
		const seen = await settle(() => seenBy(overlay, handle));
		tree.set(path, seen);
		if (seen.type !== "dir" || !isInside(path)) return;
		for (const entry of await list(overlay, settle, handle)) {
			const child = path === "" ? entry.name : `${path}/${entry.name}`;
			if (isSeen(child)) await visit(child, await settle(() => childHandle(overlay, handle, child, entry)));
		}
	};
	await visit("", overlay.root.handle);
	const ids = new Map<string, string>();
	for (const [path, { handle, fileid }] of tree) {
		if ((ids.get(handle) ?? fileid) !== fileid || (ids.get(fileid) ?? handle) !== handle)
			throw new Contradiction(`${path}: two objects share a handle or a fileid`);
		ids.set(handle, fileid).set(fileid, handle);
	}
	return tree;
}

/** Names after a cookie with their own cookies, in order. */
export function cookiesOf(overlay: Overlay, handle: string, after = "2"): Cookies {
	const from = BigInt(after);
	const cursor = overlay.list(overlay.decode(Buffer.from(handle, "hex")), ROOT, Number(from >> 32n), Number(from & 0xffffffffn));
	const found = new Map<string, string>();
	while (cursor.next()) found.set(Buffer.from(cursor.name).toString(), cookieOf(cursor));
	return found;
}

interface Entry {
	readonly name: string;
	readonly fileid: string;
	readonly handle: Buffer | null;
	readonly cookie: string;
}

/** In the order of names. */
async function list(overlay: Overlay, settle: Settle, handle: Buffer): Promise<Entry[]> {
	const found: Entry[] = [];
	let [hi, lo] = [0, 2];
	for (let isMore = true; isMore; ) {
		const page = await settle(() => {
			const cursor = overlay.list(overlay.decode(handle), ROOT, hi, lo);
			const entries: Entry[] = [];
			while (entries.length < PAGE && cursor.next()) {
				const fileid = cursor.fileid();
				const name = Buffer.from(cursor.name).toString();
				const object = cursor.object();
				entries.push({ name, fileid: `${fileid.hi}:${fileid.lo}`, handle: object?.handle ?? null, cookie: cookieOf(cursor) });
			}
			return { entries, hi: cursor.cookieHi, lo: cursor.cookieLo };
		});
		found.push(...page.entries);
		({ hi, lo } = page);
		isMore = page.entries.length === PAGE;
	}
	return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The handle of what a listing has shown. */
function childHandle(overlay: Overlay, handle: Buffer, child: string, { name, fileid, handle: listed, cookie }: Entry): Buffer {
	const found = overlay.lookup(overlay.decode(handle), bytes(name), ROOT);
	if (found === null) throw new Contradiction(`${child} is listed, and look-up does not find it`);
	if (!listed?.equals(found.handle)) throw new Contradiction(`${child}: listing and look-up have different handles`);
	if (fileid !== fileidOf(overlay.getattr(found))) throw new Contradiction(`${child}: listing and attributes have different fileids`);
	if (BigInt(cookie) < 3n) throw new Contradiction(`${child}: the cookie ${cookie} is that of "." or ".."`);
	const above = found.type === FileType.dir ? overlay.lookup(found, bytes(".."), ROOT) : null;
	if (above !== null && !above.handle.equals(handle)) throw new Contradiction(`${child}/.. is another directory`);
	return found.handle;
}

function cookieOf({ cookieHi, cookieLo }: { readonly cookieHi: number; readonly cookieLo: number }): string {
	return String((BigInt(cookieHi) << 32n) | BigInt(cookieLo));
}

function fileidOf(attributes: Attributes): string {
	return `${attributes.fileidHi}:${attributes.fileidLo}`;
}

/** By its handle alone. */
export function seenBy(overlay: Overlay, handle: Buffer): Seen {
	overlay.beginPass();
	const node = overlay.decode(handle);
	if (!node.handle.equals(handle)) throw new Contradiction("the object of a handle has another handle");
	const attributes = overlay.getattr(node);
	const { sec, nsec } = attributes.mtime;
	return {
		handle: handle.toString("hex"),
		fileid: fileidOf(attributes),
		type: TYPES.get(attributes.type) as string,
		mode: attributes.mode,
		owner: `${attributes.uid}:${attributes.gid}`,
		nlink: attributes.nlink,
		content: contentOf(overlay, node, attributes),
		xattrs: overlay
			.listxattr(node, ROOT)
			.map((name) => `${name}=${overlay.getxattr(node, ROOT, name)}`)
			.sort()
			.join(" "),
		mtime: `${sec}.${nsec}`,
	};
}

function contentOf(overlay: Overlay, node: Node, { sizeHi, sizeLo, rdevMajor, rdevMinor }: Attributes): string {
	if (node.type === FileType.lnk) return overlay.readlink(node).toString();
	if (node.type === FileType.chr) return `${rdevMajor}:${rdevMinor}`;
	if (node.type !== FileType.reg) return "";
	const { count } = overlay.read(node, ROOT, 0, buffer.bytes.length, buffer, 0);
	if (sizeHi !== 0 || sizeLo !== count) throw new Contradiction(`a file of ${sizeLo} bytes reads as ${count}`);
	return buffer.bytes.toString("latin1", 0, count);
}
