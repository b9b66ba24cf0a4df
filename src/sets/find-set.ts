// Which set of changes belongs to a tree: the one answer, none, or what a person has to decide.

import { silentTrees } from "./answering.ts";
import type { ChangeSet } from "./state-folder.ts";
import { belongsTo, handlesOf, wasServed } from "./state-folder.ts";
import { identityIfThere, isSameTree, type TreeIdentity } from "./tree-identity.ts";

/**
 * How a set belongs to a tree. `same`: that path and that directory. `moved`: that directory, known by another path. `replaced`: another directory at
 * that path.
 */
export type Relation = "same" | "moved" | "replaced" | null;

export function relationTo(set: ChangeSet, tree: TreeIdentity): Relation {
	if (set.record?.isEphemeral) return null;
	const isThere = set.treePath === tree.path;
	if (set.record === null) {
		const isIt = belongsTo(set, tree);
		if (isIt === true) return isThere || set.treePath === null ? "same" : "moved";
		// where nothing but the path tells, opening the layers shows whether it is that directory
		return isThere ? (isIt === null ? "same" : "replaced") : null;
	}
	if (isSameTree(set.record.tree, tree)) return isThere ? "same" : "moved";
	return isThere ? "replaced" : null;
}

/** What was found for a tree. `remarks` are sentences for the user, with commands. */
export type Finding =
	| { readonly kind: "found"; readonly set: ChangeSet; readonly remarks: readonly string[] }
	| { readonly kind: "none" }
	/** Nothing is served, and no set is made. */
	| { readonly kind: "refused"; readonly reason: string; readonly sets: readonly ChangeSet[] };

/** Of the sets of one user, for a tree that nobody named a set for. */
export function findByTree(sets: readonly ChangeSet[], tree: TreeIdentity): Finding {
	const usable = sets.filter(({ isOthers }) => !isOthers);
	const related = (relation: Relation) => usable.filter((set) => relationTo(set, tree) === relation);
	const same = related("same");
	if (same.length > 0) return chosen(same, tree);
	const unread = usable.filter(({ isUnread }) => isUnread);
	if (unread.length > 0) {
		const reason = `Cannot tell whether ${tree.path} is the tree of ${namesOf(unread)}. ${unread[0].damage}`;
		return { kind: "refused", reason, sets: unread };
	}
	const [moved, replaced] = [related("moved"), related("replaced")];
	if (moved.length > 0 && replaced.length > 0) {
		return {
			kind: "refused",
			reason: `${tree.path} is the tree of ${namesOf(moved)}, which was at ${moved[0].treePath}; and at ${tree.path} was the tree of ${namesOf(replaced)}.`,
			sets: [...moved, ...replaced],
		};
	}
	if (moved.length > 0) return chosen(moved, tree);
	return replaced.length > 0 ? chosen(replaced, tree) : { kind: "none" };
}

/** Of sets that belong to a tree in the same way. */
function chosen(sets: readonly ChangeSet[], tree: TreeIdentity): Finding {
	const defaults = sets.filter((set) => set.record?.isDefault ?? true);
	const set = sets.length === 1 ? sets[0] : defaults.length === 1 ? defaults[0] : undefined;
	if (set === undefined)
		return {
			kind: "refused",
			reason: `${tree.path} has ${sets.length} sets of changes, and it is not plain which one is meant.`,
			sets,
		};
	return useOf(set, tree);
}

/** Whether a set may be used with a tree. What does not fit for sure is refused here; the rest is up to the layers' own checks. */
export function useOf(set: ChangeSet, tree: TreeIdentity): Finding {
	const relation = relationTo(set, tree);
	if (relation === "same") return { kind: "found", set, remarks: [] };
	if (relation === "moved") return useMoved(set, tree);
	// it holds nothing, or what it belongs to is not known
	if (!wasServed(set) || set.treePath === null) return { kind: "found", set, remarks: [] };
	const what =
		relation === "replaced"
			? `another directory than the tree that set ${set.name} was served with last`
			: `not the tree of set ${set.name}, which is ${set.treePath}`;
	if (isOtherByNames(set, tree)) {
		return { kind: "refused", reason: `${tree.path} is ${what}, and no copy of that: the names in its root are others.`, sets: [set] };
	}
	if (handlesOf(set) === "portable") {
		return { kind: "found", set, remarks: [`${tree.path} is ${what}: its changes are served over this tree as over a copy.`] };
	}
	return {
		kind: "refused",
		reason: `${tree.path} is ${what}; its handles are the kernel's, which name inodes, so they cannot go on over a copy or another tree.`,
		sets: [set],
	};
}

/** Portable handles go on over a copy, which is recognised by the names in its root. */
export function isOtherByNames(set: ChangeSet, tree: TreeIdentity): boolean {
	const known = set.record?.tree.names ?? null;
	return handlesOf(set) === "portable" && known !== null && tree.names !== null && known !== tree.names;
}

function useMoved(set: ChangeSet, tree: TreeIdentity): Finding {
	const former = set.treePath ?? "";
	if (silentTrees([former]).has(former)) {
		const remark = `${tree.path} was at ${former} when set ${set.name} was served last, which does not answer now: its changes are served.`;
		return { kind: "found", set, remarks: [remark] };
	}
	const there = identityIfThere(former);
	if (there !== null && isSameTree(there, tree)) {
		if (there.device !== tree.device) {
			return {
				kind: "refused",
				reason: `${tree.path} and ${former} are clones of one file system, and set ${set.name} belongs to ${former}.`,
				sets: [set],
			};
		}
		return {
			kind: "found",
			set,
			remarks: [`${tree.path} is the same directory as ${former}, whose changes are in set ${set.name}: they are served.`],
		};
	}
	return { kind: "found", set, remarks: [`${tree.path} was at ${former} when set ${set.name} was served last: its changes are served.`] };
}

/** Sets whose trees have the same names in their roots: the tree may be a copy. */
export function copiesOf(sets: readonly ChangeSet[], tree: TreeIdentity): ChangeSet[] {
	if (tree.names === null) return [];
	return sets.filter((set) => !set.record?.isEphemeral && set.record?.tree.names === tree.names && relationTo(set, tree) === null);
}

export function namesOf(sets: readonly ChangeSet[]): string {
	return `${sets.length === 1 ? "set" : "sets"} ${sets.map(({ name }) => name).join(", ")}`;
}
