import { linkSync } from "node:fs";
import { join } from "node:path";
import { plant, type TreeDescription } from "../support/lower-tree.ts";
import { type Change, create, DEVICE, type MadeType, rename, setattr, TARGET, write } from "./change.ts";
import type { Stack } from "./stacks.ts";

/** What a handle is taken of. A new kind is one entry of KINDS. */
export interface Kind {
	readonly name: string;
	/** The top directory of the kind's own part of the tree; all its paths begin with it. */
	readonly top: string;
	readonly type: MadeType;
	/** Of the object before the event. The root's is "". */
	readonly path: string;
	/** Its other names. */
	readonly names: readonly string[];
	/** What lies in it, deepest first. */
	readonly below: readonly { readonly path: string; readonly type: MadeType }[];
	/** Nothing of it comes from a lower. */
	readonly isPure: boolean;
	/** It lies at TOP0 in the lowers, and the redirecting layer shows it at TOP. */
	readonly plantsBelowRedirect: boolean;
	/** Requests before the handle is taken. */
	readonly prepare: readonly Change[];
	/** Puts its part into the lowers of a stack, from the topmost down. */
	plant(lowers: readonly string[], stack: Stack): void;
	impossible(stack: Stack): string | null;
}

/** Where the lowers of a stack hold what: its `main` one has the object; those above and below make the directories above it merged. */
function layout(count: number): { readonly main: number; readonly above: number; readonly below: number } {
	return { main: Math.floor(count / 2), above: 0, below: count - 1 };
}

/**
 * Every kind lies at TOP/g/p/s, beside a sibling; TOP/o holds what is renamed over it, and what it is renamed over. In a stack of several
 * lowers TOP and TOP/g are merged directories.
 */
function surroundings(top: string, lowers: readonly string[], main: TreeDescription): void {
	const at = layout(lowers.length);
	plant(lowers[at.main], {
		[`${top}/g/p/sibling`]: `sibling of ${top}`,
		[`${top}/o/victim`]: "to be covered",
		[`${top}/o/mover`]: "comes over it",
		[`${top}/o/emptied/`]: "",
		[`${top}/o/movable/`]: "",
		...main,
	});
	if (lowers.length === 1) return;
	plant(lowers[at.above], { [`${top}/above`]: "above" });
	plant(lowers[at.below], { [`${top}/g/under`]: "under" });
}

interface Description {
	readonly name: string;
	readonly top: string;
	readonly type: MadeType;
	readonly names?: readonly string[];
	readonly below?: Kind["below"];
	readonly isPure?: boolean;
	readonly prepare?: readonly Change[];
	/** In the lower that holds the object. */
	readonly main?: TreeDescription;
	/** In others: by place from the topmost down. */
	readonly others?: (count: number) => Readonly<Record<number, TreeDescription>>;
	readonly impossible?: (stack: Stack) => string | null;
	/** Under which names the lowers below a redirecting one hold it. */
	readonly isRedirected?: boolean;
}

function kind(given: Description): Kind {
	const { name, top, type, isRedirected = false } = given;
	return {
		name,
		top,
		type,
		path: `${top}/g/p/s`,
		names: given.names ?? [],
		below: given.below ?? [],
		isPure: given.isPure ?? false,
		plantsBelowRedirect: isRedirected,
		prepare: given.prepare ?? [],
		plant(lowers, stack) {
			if (isRedirected && !stack.hasRedirect) return;
			// the redirecting layer is made over those below it
			const own = isRedirected ? lowers.slice(stack.redirecting + 1) : lowers;
			surroundings(isRedirected ? `${top}0` : top, own, given.main ?? {});
			for (const [place, tree] of Object.entries(given.others?.(own.length) ?? {})) plant(own[Number(place)], tree);
			const main = own[layout(own.length).main];
			const [first, ...names] = [this.path, ...this.names];
			if (type !== "dir") for (const other of names) if (!given.isPure) linkSync(join(main, first), join(main, other));
		},
		impossible: (stack) => (isRedirected && !stack.hasRedirect ? "no layer between has a redirect" : (given.impossible?.(stack) ?? null)),
	};
}

const IN_DIRECTORY = (top: string): Kind["below"] => [
	{ path: `${top}/g/p/s/sub/leaf`, type: "reg" },
	{ path: `${top}/g/p/s/sub`, type: "dir" },
	{ path: `${top}/g/p/s/in`, type: "reg" },
];

const ROOT_KIND: Kind = {
	...kind({ name: "root", top: "root", type: "dir" }),
	path: "",
	plant: (lowers) => surroundings("root", lowers, {}),
	impossible: () => null,
};

export const KINDS: readonly Kind[] = [
	kind({ name: "lower file", top: "file", type: "reg", main: { "file/g/p/s": "a lower file" } }),
	kind({
		name: "file with three lower names",
		top: "three",
		type: "reg",
		names: ["three/g/p/s2", "three/o/s3"],
		main: { "three/g/p/s": "three names" },
	}),
	kind({ name: "symlink", top: "symlink", type: "lnk", main: { "symlink/g/p/s": { link: TARGET } } }),
	kind({
		name: "device",
		top: "device",
		type: "chr",
		impossible: ({ isPlain }) => (isPlain ? "an ordinary user has devices only with --fake-root" : null),
		main: { "device/g/p/s": { node: ["c", String(DEVICE.major), String(DEVICE.minor)] } },
	}),
	kind({
		name: "lower directory",
		top: "dir",
		type: "dir",
		below: IN_DIRECTORY("dir"),
		main: { "dir/g/p/s/in": "in", "dir/g/p/s/sub/leaf": "leaf" },
	}),
	kind({
		name: "merged directory",
		top: "merged",
		type: "dir",
		below: [...IN_DIRECTORY("merged"), { path: "merged/g/p/s/mine", type: "reg" }],
		main: { "merged/g/p/s/in": "in", "merged/g/p/s/sub/leaf": "leaf" },
		prepare: [create("merged/g/p/s/mine"), write("merged/g/p/s/mine", "of upper")],
	}),
	kind({
		name: "directory merged from three lowers",
		top: "triple",
		type: "dir",
		below: [...IN_DIRECTORY("triple"), { path: "triple/g/p/s/higher", type: "reg" }, { path: "triple/g/p/s/lower", type: "reg" }],
		main: { "triple/g/p/s/in": "in", "triple/g/p/s/sub/leaf": "leaf" },
		others: (count) => (count < 3 ? {} : { 0: { "triple/g/p/s/higher": "higher" }, [count - 1]: { "triple/g/p/s/lower": "lower" } }),
		impossible: (stack) => (stack.lowers < 3 ? "the stack has fewer than three lowers" : null),
	}),
	kind({
		name: "file below a redirect of a middle layer",
		top: "rfile",
		type: "reg",
		main: { "rfile0/g/p/s": "below a redirect" },
		isRedirected: true,
	}),
	kind({
		name: "directory below a redirect of a middle layer",
		top: "rdir",
		type: "dir",
		below: IN_DIRECTORY("rdir"),
		main: { "rdir0/g/p/s/in": "in", "rdir0/g/p/s/sub/leaf": "leaf" },
		isRedirected: true,
	}),
	kind({
		name: "pure upper file",
		top: "pure",
		type: "reg",
		isPure: true,
		prepare: [create("pure/g/p/s"), write("pure/g/p/s", "born in upper")],
	}),
	kind({
		name: "pure upper directory",
		top: "puredir",
		type: "dir",
		isPure: true,
		below: [{ path: "puredir/g/p/s/in", type: "reg" }],
		prepare: [create("puredir/g/p/s", "dir"), create("puredir/g/p/s/in")],
	}),
	kind({
		name: "copied up file",
		top: "copied",
		type: "reg",
		main: { "copied/g/p/s": "to be copied up" },
		prepare: [setattr("copied/g/p/s", { mode: 0o640 })],
	}),
	kind({
		name: "file renamed over another",
		top: "over",
		type: "reg",
		main: { "over/g/p/s": "was covered", "over/o/came": "came over it" },
		prepare: [rename("over/o/came", "over/g/p/s")],
	}),
	ROOT_KIND,
];
