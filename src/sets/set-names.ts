// The names of sets: what may be one, and which one a new set gets by default.

import { basename } from "node:path";

export const SET_NAME_BYTES_MAX = 100;

/** Letters and digits of any script, and `._+-`: a name needs no quotes in a shell and upsets no terminal. */
const NAME = /^[\p{L}\p{N}][\p{L}\p{N}\p{M}._+-]*$/u;
const NOT_IN_NAMES = /[^\p{L}\p{N}\p{M}._+-]+/gu;

export const SET_NAME_RULE = `A set's name begins with a letter or digit, has only letters, digits and ._+-, and at most ${SET_NAME_BYTES_MAX} bytes.`;

export function isSetName(name: string): boolean {
	return NAME.test(name) && Buffer.byteLength(name) <= SET_NAME_BYTES_MAX;
}

/** Room for a number behind it. */
const BASE_BYTES_MAX = SET_NAME_BYTES_MAX - 10;

/** By the last part of the path of its tree. */
export function nameFor(treePath: string, isTaken: (name: string) => boolean): string {
	let base = basename(treePath)
		.replace(NOT_IN_NAMES, "-")
		.replace(/^[^\p{L}\p{N}]+|-+$/gu, "");
	while (Buffer.byteLength(base) > BASE_BYTES_MAX) base = [...base].slice(0, -1).join("");
	if (base === "") base = treePath === "/" ? "root" : "tree";
	for (let number = 1; ; number++) {
		const name = number === 1 ? base : `${base}-${number}`;
		if (!isTaken(name)) return name;
	}
}
