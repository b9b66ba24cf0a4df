// Owners and groups on the wire: decimal numbers, or names of a domain where the server was given one.

import type { XdrReader } from "../xdr/xdr-reader.ts";
import { OPAQUE_BYTES_MAX } from "./protocol.ts";
import { Nfs4Error, Status } from "./status.ts";

export type OwnerKind = "user" | "group";

/** Names of the host's users and groups. */
export interface OwnerNames {
	idOf(kind: OwnerKind, name: string): number | null;
	nameOf(kind: OwnerKind, id: number): string | null;
}

const ID_MAX = 0xffffffff;
/** As RFC 8881 section 5.9 has it: no sign, no blank, no leading zero. */
const NUMBER = /^(?:0|[1-9][0-9]{0,9})$/;
const TEXTS_KEPT_MAX = 4096;

export class Owners {
	readonly #domain: string | null;
	readonly #names: OwnerNames | null;
	/** Texts of numbers as they were sent last. */
	readonly #texts = new Map<number, Buffer>();

	/** `names` of `domain`; null: numbers alone are known. */
	constructor(domain: string | null = null, names: OwnerNames | null = null) {
		this.#domain = domain;
		this.#names = names;
	}

	/** What is sent for an id. */
	text(kind: OwnerKind, id: number): Buffer {
		if (this.#domain !== null) {
			const name = this.#names?.nameOf(kind, id) ?? null;
			if (name !== null) return Buffer.from(`${name}@${this.#domain}`);
		}
		let text = this.#texts.get(id);
		if (text === undefined) {
			if (this.#texts.size >= TEXTS_KEPT_MAX) this.#texts.clear();
			text = Buffer.from(String(id));
			this.#texts.set(id, text);
		}
		return text;
	}

	/** Reads an owner or group. "badowner" for what names nobody here. */
	read(kind: OwnerKind, args: XdrReader): number {
		const bytes = args.opaque(OPAQUE_BYTES_MAX);
		const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8");
		if (NUMBER.test(text)) {
			const id = Number(text);
			// the largest one stands for "nobody" in system calls
			if (id < ID_MAX) return id;
		}
		const at = text.lastIndexOf("@");
		if (at > 0 && this.#domain !== null && text.slice(at + 1).toLowerCase() === this.#domain.toLowerCase()) {
			const id = this.#names?.idOf(kind, text.slice(0, at)) ?? null;
			if (id !== null) return id;
		}
		throw new Nfs4Error(Status.badowner, "This names no user or group here");
	}
}
