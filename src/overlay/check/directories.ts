// Judges which lower directories are merged into which directories of upper.

import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import type { Check } from "./context.ts";
import type { Remedy } from "./findings.ts";
import type { IndexEntry, LowerObject } from "./index.ts";
import { type MergedDirectory, OpenStack } from "./union.ts";
import { shown, type Unmerged, type Walked } from "./upper.ts";

/** Judges which lower directories are merged where: each is to be seen in one place at most, and none that is gone. */
export function judgeDirectories(check: Check, index: ReadonlyMap<string, IndexEntry>, walked: Walked): void {
	judgeDoubles(check, index);
	for (const place of walked.redirected) judgeRedirected(check, place);
	for (const unmerged of walked.unmerged) judgeUnmerged(check, unmerged);
	for (const entry of index.values()) {
		if (entry.kind === "directory" && !entry.isSeen) judgeUnseen(check, entry);
		if (entry.kind === "tombstone" && entry.lower.type === FileType.dir) judgeGone(check, index, entry);
	}
}

function judgeUnseen(check: Check, { name }: IndexEntry): void {
	const message = "The directory that the entry leads to does not lie in upper.";
	check.error("index-upper-gone", `index/${name}`, message, check.aside("index", Buffer.from(name)));
}

/** Two upper directories over one lower directory show its content twice. What is below them comes from that, and is not told again. */
function judgeDoubles(check: Check, index: ReadonlyMap<string, IndexEntry>): void {
	const named = new Set([...index.values()].filter(({ kind }) => kind === "directory").map(({ key }) => key));
	const told = new Set<string>();
	for (const places of check.places.mergedTwice()) {
		const [first, ...others] = [...places].sort((a, b) => rank(named, b) - rank(named, a));
		for (const other of others) {
			const pair = `${first.path}\0${other.path}`;
			if (told.has(pair) || isInherited(first, other)) continue;
			told.add(pair);
			const winner = named.has(first.upper?.key ?? "") && !named.has(other.upper?.key ?? "") ? "; the index names the latter" : "";
			check.error(
				"redirect-double",
				shown(other.path),
				`This directory and ${shown(first.path)} are merged with the same lower directory, whose content is shown in both${winner}. ` +
					"Move what the wrong one of them has of its own elsewhere, and remove that directory from upper.",
			);
		}
	}
}

/** First the directory that the index names, then one without a redirect. */
function rank(named: ReadonlySet<string>, place: MergedDirectory): number {
	return (named.has(place.upper?.key ?? "") ? 2 : 0) + (place.isRedirected ? 0 : 1);
}

function isInherited(a: MergedDirectory, b: MergedDirectory): boolean {
	if (a.isRedirected || b.isRedirected || a.parent === null || b.parent === null) return false;
	const keys = new Set(a.parent.stack.map(({ key }) => key));
	return b.parent.stack.some(({ key }) => keys.has(key));
}

/** A directory that was moved must not be to be seen at its old place any more. */
function judgeRedirected(check: Check, place: MergedDirectory): void {
	const top = place.stack[0];
	for (const other of check.places.of(top.layer, top.handle)) {
		if (other.upper !== null || other.stack[0].key !== top.key || other.parent === null || other.name === null) continue;
		const message = `The directory was moved to ${shown(place.path)}, and is still to be seen here too: a whiteout is missing.`;
		check.error("whiteout-missing", shown(other.path), withAdvice(message, other.parent), check.whiteout(other.parent.upper, other.name));
	}
}

export function withAdvice(message: string, directory: MergedDirectory): string {
	if (directory.upper !== null) return message;
	return `${message} Upper has no directory ${shown(directory.path)} that could hold it: remove the name through the overlay.`;
}

function judgeGone(check: Check, index: ReadonlyMap<string, IndexEntry>, { lower }: IndexEntry): void {
	for (const place of check.places.of(lower.layer, lower.handle)) {
		if (place.stack[0].key !== lower.key || place.parent === null || place.name === null) continue;
		if (place.upper !== null) {
			mergedThoughGone(check, place, place.upper);
			continue;
		}
		// then that one is told of
		if (isGone(index, place.parent)) continue;
		const message = "The index says that this directory is gone, and it is still to be seen: a whiteout is missing.";
		check.error("whiteout-missing", shown(place.path), withAdvice(message, place.parent), check.whiteout(place.parent.upper, place.name));
	}
}

const gone = new WeakMap<ReadonlyMap<string, IndexEntry>, Set<string>>();

/** Whether the index says of the topmost lower directory of a place that it is gone. */
export function isGone(index: ReadonlyMap<string, IndexEntry>, place: MergedDirectory): boolean {
	let keys = gone.get(index);
	if (keys === undefined) {
		keys = new Set([...index.values()].filter(({ kind }) => kind === "tombstone").map(({ lower }) => lower.key));
		gone.set(index, keys);
	}
	return keys.has(place.stack[0]?.key ?? "");
}

/** What takes the place of a removed directory hides it, or what was removed comes back. */
function mergedThoughGone(check: Check, place: MergedDirectory, upper: NonNullable<MergedDirectory["upper"]>): void {
	const { opaque } = check.layers.xattr;
	const message = "The directory is merged with a lower one that the index says is gone, and shows what was removed.";
	check.error("merged-though-gone", shown(place.path), message, {
		does: "makes it opaque, which hides the lower one",
		make: () => check.repairs.setXattr(upper.handle, opaque, Buffer.from("y")),
	});
}

const MESSAGES: Record<Unmerged["kind"], string> = {
	"redirect-malformed": "The redirect is none that an overlay wrote: the directory answers with an error.",
	"redirect-nowhere": "The redirect leads to no directory of a lower: what the directory had there is not shown.",
	"redirect-missing":
		"The index says which lower directory this was copied up from, but it is not merged with that: what it had there is not shown.",
};

function judgeUnmerged(check: Check, unmerged: Unmerged): void {
	const { kind, place } = unmerged;
	const remedy = redirectTo(check, unmerged);
	const advice = remedy === null ? " Set the right redirect by hand, or make the directory opaque." : "";
	check.error(kind, shown(place.path), `${MESSAGES[kind]}${advice}`, remedy);
}

/** A redirect to the very directory that it was born as, if nothing else shows that, and if the redirect will lead there. */
function redirectTo(check: Check, { place, lower, isLong }: Unmerged): Remedy | null {
	if (lower === null || isLong || place.upper === null) return null;
	const { handle, key } = place.upper;
	const way = check.union.climb(lower.layer, lower.handle);
	if (way === null || way.steps.length === 0) return null;
	if (check.places.of(lower.layer, lower.handle).some((other) => other.upper?.key !== key && !willBeHidden(other))) return null;
	const redirect = Buffer.concat(way.steps.flatMap(({ name }) => [Buffer.from("/"), name]));
	if (!leadsTo(check, redirect, lower)) return null;
	const path = way.steps.map(({ name }) => showName(name)).join("/");
	return { does: `sets the redirect to /${path}`, make: () => check.repairs.setXattr(handle, check.layers.xattr.redirect, redirect) };
}

/** A lower directory that is shown as it is, in a directory of upper, can be hidden by a whiteout once the redirect tells that it was moved. */
function willBeHidden(place: MergedDirectory): boolean {
	return place.upper === null && place.parent !== null && place.parent.upper !== null;
}

function leadsTo(check: Check, redirect: Buffer, lower: LowerObject): boolean {
	const { lowers } = check.layers;
	const roots = new OpenStack(lowers, check.union.roots);
	try {
		const found = check.union.find(roots, Buffer.alloc(0), redirect);
		return found.kind === "dir" && found.directories[0].key === lower.key;
	} finally {
		roots.close();
	}
}
