// From DIR, or the name of a set, to the set of changes that a command works on; and what is said where that is not plain.

import { realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { LayerError } from "../layer/layer-error.ts";
import { pathExists } from "../linux/read-file.ts";
import { refuseStateInside } from "../overlay/opening/export-paths.ts";
import { silentTrees } from "../sets/answering.ts";
import { copiesOf, type Finding, findByTree, isOtherByNames, namesOf, relationTo, useOf } from "../sets/find-set.ts";
import { isSetName, nameFor, SET_NAME_RULE } from "../sets/set-names.ts";
import {
	type ChangeSet,
	elsewhere,
	finishRemovals,
	handlesOf,
	holdSet,
	noteServed,
	readSets,
	removeSet,
	StateFolder,
	undoMaking,
} from "../sets/state-folder.ts";
import { rootOfUser, type StateRoots, SYSTEM_ROOT, stateRoots, type UserRoot } from "../sets/state-roots.ts";
import { identityOf, type TreeIdentity } from "../sets/tree-identity.ts";
import { quoteForShell } from "../vfs/names.ts";
import { describeFailure, unlessFull } from "../vfs/system-errors.ts";
import { confirm, isAnybodyThere } from "./ask.ts";
import { complain } from "./print.ts";
import { UserError } from "./user-error.ts";

export interface SetArguments {
	readonly name?: string;
	readonly stateDir?: string;
	/** A set of that name may be made, although the tree has others. */
	readonly new?: boolean;
	readonly ephemeral?: boolean;
	/** The set that another server has had, which was killed: an ephemeral one too. */
	readonly resume?: string;
}

/** A set that a command works on. */
export interface FoundSet {
	readonly set: ChangeSet;
	/** The tree: DIR, or where the set had it last. */
	readonly lower: string;
}

/** A set that is to be served. */
export interface ClaimedSet extends FoundSet {
	readonly isNew: boolean;
	/** Its export is open: notes which tree it has now. */
	served(): void;
	/** It cannot be served: a new one goes again. */
	undo(): void;
	/** It was opened, and nobody came: a new one goes again. */
	discard(): void;
	/** The server has ended: an ephemeral set goes. */
	end(): void;
}

/** The set of DIR, or of a name in its place or by --name; nothing is made. UserError, LayerError. */
export function findSet(directory: string | undefined, given: SetArguments): FoundSet {
	const search = new Search(directory, given);
	const finding = search.find(allSets(given.stateDir));
	if (finding.kind === "found") return search.told(finding);
	if (finding.kind === "refused") throw search.refusal(finding);
	throw search.notThere();
}

/** All sets of this user, by their names. */
export function allSets(stateDir: string | undefined): ChangeSet[] {
	const roots = stateRoots(stateDir);
	const former = formerRootsOf(roots);
	if ([roots.own, ...former].some((root) => readSets(root).length > 0)) nameFormer(roots, former);
	return setsOf(roots);
}

/** Whatever its tree is now. UserError: there is no such set. */
export function setNamed(name: string, stateDir: string | undefined): ChangeSet {
	const set = byName(allSets(stateDir), name, stateRoots(stateDir).own);
	if (set === undefined) throw new UserError(`There is no set ${name}: holdfast list shows all sets.`);
	return set;
}

/** In the own state folder first. */
function byName(sets: readonly ChangeSet[], name: string, own: string): ChangeSet | undefined {
	const named = sets.filter((set) => set.name === name);
	return named.find(({ root }) => root === own) ?? named[0];
}

/** UserError: the set is another user's. */
function refuseOthers({ name, folder, isOthers }: ChangeSet): void {
	if (isOthers) throw new UserError(`Cannot use the set ${name}: its folder ${folder} belongs to another user.`);
}

/** An upper that is named by itself, or as a set's. */
export interface UpperArguments {
	readonly upper?: string;
	readonly work?: string;
	readonly name?: string;
	readonly stateDir?: string;
}

/** By either way the set whose upper it is. UserError: neither is named, or both are, or the set that is named is another user's. */
export function upperNamed(given: UpperArguments): {
	readonly upper: string;
	readonly work: string | undefined;
	readonly set: ChangeSet | null;
} {
	const { upper, work, name, stateDir } = given;
	if (upper !== undefined && name === undefined) {
		const set = setOfUpper(upper, stateDir);
		return { upper, work: work ?? set?.work, set };
	}
	if (name === undefined || upper !== undefined || work !== undefined) {
		throw new UserError("Name the upper (--upper, and --work if it has one of its own), or the set that it is of (--name).", 2);
	}
	const set = setNamed(name, stateDir);
	refuseOthers(set);
	return { upper: set.upper, work: set.work, set };
}

/** The set of this user that an upper is of; null: it is of none. */
function setOfUpper(upper: string, stateDir: string | undefined): ChangeSet | null {
	if (!pathExists(upper)) return null;
	const path = realpathSync(upper);
	// its state folder may be one that nothing else tells of
	const sets = [...setsOf(stateRoots(stateDir)), ...readSets(dirname(dirname(dirname(path))))];
	return sets.find((set) => !set.isOthers && set.upper === path) ?? null;
}

/** Gives names to what earlier versions made, and puts aside what killed servers left. */
function nameFormer({ own }: StateRoots, former: readonly string[]): void {
	let state: StateFolder;
	try {
		state = StateFolder.open(own);
	} catch {
		// it cannot be written: the sets are found by what they are
		return;
	}
	try {
		state.takeOver(former, null);
		state.sweep();
	} catch (error) {
		if (!(error instanceof LayerError) && describeFailure(error) === null) throw error;
	} finally {
		state.close();
	}
	tidy(own);
}

/** What an interrupted removal has left holds up no other set. */
function tidy(root: string): void {
	try {
		finishRemovals(root);
	} catch (error) {
		if (!(error instanceof LayerError) && describeFailure(error) === null) throw error;
		complain(error instanceof LayerError ? error.message : `${describeFailure(error)}.`);
	}
}

/** Where earlier versions kept root's sets. An ordinary user's sets stay where they are. */
function formerRootsOf({ own, others }: StateRoots): readonly string[] {
	return own === SYSTEM_ROOT ? others : [];
}

/** In the own state folder first. */
function setsOf({ own, others }: StateRoots): ChangeSet[] {
	const roots = new Set([own, ...others, ...elsewhere(own), ...others.flatMap(elsewhere)]);
	const found = new Map<string, ChangeSet>();
	for (const root of roots) for (const set of readSets(root)) if (!found.has(set.folder)) found.set(set.folder, set);
	return [...found.values()];
}

/** The same for serve and adopt, which may make a new one. */
export function claimSet(directory: string | undefined, given: SetArguments): ClaimedSet {
	const search = new Search(directory, given);
	if (given.resume !== undefined) {
		const set = setNamed(given.resume, given.stateDir);
		return claimed({ set, lower: search.tree === null ? (set.treePath as string) : search.treePath }, search.tree, false);
	}
	if (search.tree !== null) refuseStateInside(search.roots.own, search.tree.path);
	const state = StateFolder.open(search.roots.own);
	try {
		state.takeOver(formerRootsOf(search.roots), search.tree);
		state.sweep();
		const finding: Finding = given.ephemeral ? { kind: "none" } : search.find(setsOf(search.roots));
		if (finding.kind === "refused") throw search.refusal(finding);
		if (finding.kind === "found") return claimed(search.told(finding), search.tree, false);
		const set = search.make(state);
		return claimed({ set, lower: search.treePath }, search.tree, true);
	} finally {
		state.close();
		tidy(search.roots.own);
	}
}

function claimed(found: FoundSet, looked: TreeIdentity | null, isNew: boolean): ClaimedSet {
	const { set, lower } = found;
	const isEphemeral = set.record?.isEphemeral ?? false;
	const tree = looked ?? identityOf(lower);
	const hold = holdSet(set);
	const remove = () => {
		hold.close();
		removeSet(set);
	};
	return {
		...found,
		isNew,
		served: () => noted(set, () => noteServed(set, tree)),
		undo() {
			if (isEphemeral) return remove();
			hold.close();
			if (isNew) undoMaking(set);
		},
		discard() {
			if (isNew) return remove();
			hold.close();
		},
		end() {
			if (isEphemeral) remove();
			else noted(set, () => noteServed(set, tree));
		},
	};
}

/** A record that cannot be written, as on a full disk, ends no server. */
function noted({ name }: ChangeSet, write: () => void): void {
	try {
		unlessFull(write);
	} catch (error) {
		const failure = describeFailure(error);
		if (failure === null) throw error;
		complain(`The record of the set ${name} is not up to date: ${failure}.`);
	}
}

/** What one command line names, and all sets that it may mean. */
class Search {
	readonly roots: StateRoots;
	/** Null: the command line names a set, and no directory. */
	readonly tree: TreeIdentity | null;
	readonly #directory: string | undefined;
	readonly #name: string | null;
	readonly #given: SetArguments;

	constructor(directory: string | undefined, given: SetArguments) {
		this.#given = given;
		this.roots = stateRoots(given.stateDir);
		const isName = directory !== undefined && isSetName(directory) && !pathExists(directory);
		if (isName && given.name !== undefined && given.name !== directory) {
			throw new UserError(`There is no directory ${directory}; and a set is named once, by its name or by --name.`, 2);
		}
		this.#directory = isName ? undefined : directory;
		this.#name = given.name ?? (isName ? directory : null);
		if (this.#name !== null && !isSetName(this.#name)) throw new UserError(SET_NAME_RULE, 2);
		this.tree = this.#directory === undefined ? null : identityOf(this.#directory);
	}

	/** As the user gave it, where there is a directory. */
	get treePath(): string {
		return this.#directory ?? "";
	}

	find(sets: readonly ChangeSet[]): Finding {
		if (this.#name !== null) {
			const named = byName(sets, this.#name, this.roots.own);
			if (named === undefined) return this.#unknownName(sets);
			return this.#useNamed(named);
		}
		const tree = this.tree as TreeIdentity;
		const own = findByTree(
			sets.filter(({ root }) => root === this.roots.own),
			tree,
		);
		if (own.kind !== "none") return own;
		const further = findByTree(
			sets.filter(({ root }) => root !== this.roots.own),
			tree,
		);
		if (further.kind !== "found") return further;
		return {
			...further,
			remarks: [...further.remarks, `The changes to ${tree.path} are in ${further.set.root}, where they were made: they are served.`],
		};
	}

	#useNamed(set: ChangeSet): Finding {
		refuseOthers(set);
		if (set.treePath === null && this.tree === null) {
			throw new UserError(`Cannot tell which tree the set ${set.name} belongs to. ${set.damage} Name it: DIR --name ${set.name}.`);
		}
		if (set.record?.isEphemeral) throw new UserError(`Cannot use the set ${set.name}: it is ephemeral, and goes with its server.`);
		const own = set.treePath ?? "";
		if (this.tree === null && silentTrees([own]).has(own)) {
			throw new UserError(`The tree of the set ${set.name} does not answer: ${own}. If it is on the network, is its server there?`);
		}
		if (this.tree === null && !pathExists(own)) {
			throw new UserError(`The tree of the set ${set.name} is not there: ${set.treePath}.`, 1, [
				`If it lies elsewhere now: ${this.#command("serve THAT_DIRECTORY", null, set.name)}`,
			]);
		}
		return useOf(set, this.tree ?? identityOf(set.treePath as string));
	}

	/** A typing error more often than a wish, where the tree has another set. */
	#unknownName(sets: readonly ChangeSet[]): Finding {
		if (this.tree === null)
			throw new UserError(`There is no set ${this.#name}, and no directory of that name: holdfast list shows all sets.`);
		const others = this.#related(sets);
		if (others.length === 0 || this.#given.new) return { kind: "none" };
		const reason = `There is no set ${this.#name}, and ${this.tree.path} has ${namesOf(others)}`;
		if (isAnybodyThere()) {
			confirm(`${reason}.`, `Make another one, ${this.#name}, which is empty?`, "");
			return { kind: "none" };
		}
		return { kind: "refused", reason: `${reason}.`, sets: others };
	}

	#related(sets: readonly ChangeSet[]): ChangeSet[] {
		const { tree } = this;
		return tree === null ? [] : sets.filter((set) => relationTo(set, tree) !== null);
	}

	/** What other users have for the tree, as far as root may look. */
	#ofUsers(): { readonly user: UserRoot; readonly set: ChangeSet }[] {
		if (this.roots.own !== SYSTEM_ROOT || this.tree === null) return [];
		const owner = statSync(this.tree.path).uid;
		const ownersRoot = owner === 0 ? null : rootOfUser(owner);
		const users = new Map([...this.roots.ofUsers, ...(ownersRoot === null ? [] : [ownersRoot])].map((one) => [one.root, one]));
		return [...users.values()].flatMap((user) =>
			this.#related(readSets(user.root).filter(({ isOthers }) => isOthers)).map((set) => ({ user, set })),
		);
	}

	/** The first set of a tree, or one that was asked for. UserError: somebody has to say so first. */
	make(state: StateFolder): ChangeSet {
		const { tree } = this;
		if (tree === null) throw this.notThere();
		const isEphemeral = this.#given.ephemeral ?? false;
		if (!isEphemeral && !this.#given.new) this.#refuseBesideUsers(tree);
		if (!isEphemeral) this.#remarkOn(tree);
		const set = state.make(tree, this.#name, isEphemeral);
		if (this.roots.own !== SYSTEM_ROOT) state.noteAt(this.roots.others);
		return set;
	}

	#refuseBesideUsers(tree: TreeIdentity): void {
		const [other] = this.#ofUsers();
		if (other === undefined) return;
		const { user, set } = other;
		throw new UserError(
			`${tree.path} has changes that are the user ${user.user}'s: set ${set.name} in ${user.root}. Nothing is served, and no empty set is made.`,
			1,
			[
				`To go on with those: sudo -u ${quoteForShell(user.user)} holdfast serve ${quoteForShell(tree.path)} --name ${set.name}`,
				`To begin an empty set of root's: ${this.#command("serve", tree, this.#freeName(tree, readSets(this.roots.own)))} --new`,
			],
		);
	}

	/** What is no reason to refuse, and must not go unsaid. */
	#remarkOn(tree: TreeIdentity): void {
		const sets = setsOf(this.roots);
		const unknown = sets.filter(({ treePath, isOthers }) => treePath === null && !isOthers);
		if (unknown.length > 0) {
			complain(
				`A new, empty set is made for ${tree.path}. It is not known which trees ${namesOf(unknown.slice(0, COPIES_SHOWN))} belong to: ` +
					`to see them, holdfast list${this.#stateOption()}; to serve one with this tree, ${this.#command("serve", tree, unknown[0].name)}`,
			);
		}
		for (const copied of copiesOf(sets, tree).slice(0, COPIES_SHOWN)) {
			complain(
				`${tree.path} has the same names as ${copied.treePath}, whose changes are in set ${copied.name}: if it is a copy, those are not shown here. ` +
					(handlesOf(copied) === "portable"
						? `To go on with them over the copy: ${this.#command("serve", tree, copied.name)}`
						: `That set's handles are the kernel's, which do not go on over a copy unless, while ${copied.treePath} is there, they are made ` +
							`portable: ${this.#command("rebind", null, copied.name)}`),
			);
		}
		if (this.roots.own !== SYSTEM_ROOT && process.geteuid?.() !== 0 && this.#given.stateDir === undefined && pathExists(SYSTEM_ROOT)) {
			complain(
				`A new, empty set of changes is made for ${tree.path}. If root has served this tree, those changes are root's: sudo holdfast list.`,
			);
		}
	}

	told(finding: Finding & { kind: "found" }): FoundSet {
		for (const remark of finding.remarks) complain(remark);
		if (finding.set.damage !== "") complain(`${finding.set.damage} It is written anew when the set ${finding.set.name} is served.`);
		return { set: finding.set, lower: this.#directory ?? (finding.set.treePath as string) };
	}

	refusal({ reason, sets }: Finding & { kind: "refused" }): UserError {
		const tree = this.tree ?? sets[0].record?.tree ?? null;
		const known = setsOf(this.roots);
		const advice = sets.flatMap((set) => [describe(set), ...this.#waysOn(set, tree)]);
		const isFree = this.#name !== null && !known.some(({ name }) => name === this.#name);
		const free = isFree ? this.#name : tree === null ? null : this.#freeName(tree, known);
		if (tree !== null && free !== null) advice.push(`To begin an empty set: ${this.#command("serve", tree, free)} --new`);
		advice.push(`To see all sets: holdfast list${this.#stateOption()}`);
		return new UserError(`${reason} Nothing is served, and no empty set is made.`, 1, advice);
	}

	#waysOn(set: ChangeSet, tree: TreeIdentity | null): string[] {
		if (tree === null) return [];
		if (useOf(set, tree).kind === "found") return [`  To serve it with this tree: ${this.#command("serve", tree, set.name)}`];
		if (isOtherByNames(set, tree)) {
			const lower = quoteForShell(tree.path);
			return [`  To put this tree under it, as a new image: ${this.#command(`rebase --lower ${lower}`, null, set.name)}`];
		}
		const elsewhere = this.#command("serve THAT_DIRECTORY", null, set.name);
		if (set.treePath === tree.path) return [`  If its own tree lies elsewhere now: ${elsewhere}`];
		return [
			`  If its own tree lies elsewhere now: ${elsewhere}`,
			`  To make its handles portable, while its own tree is there: ${this.#command("rebind", null, set.name)}`,
		];
	}

	notThere(): UserError {
		const what = this.tree?.path ?? this.#name;
		return new UserError(`There is no set of changes for ${what}: holdfast list${this.#stateOption()} shows all sets.`);
	}

	#freeName(tree: TreeIdentity, sets: readonly ChangeSet[]): string {
		return nameFor(tree.path, (name) => sets.some((set) => set.name === name));
	}

	#command(command: string, tree: TreeIdentity | null, name: string): string {
		return `holdfast ${command}${tree === null ? "" : ` ${quoteForShell(tree.path)}`} --name ${quoteForShell(name)}${this.#stateOption()}`;
	}

	#stateOption(): string {
		return this.#given.stateDir === undefined ? "" : ` --state-dir ${quoteForShell(this.#given.stateDir)}`;
	}
}

const COPIES_SHOWN = 3;

function describe(set: ChangeSet): string {
	const { name, treePath, record, folder } = set;
	const served = record?.served ? `, served last ${record.served}` : "";
	return `set ${name}: tree ${treePath ?? "unknown"}${served}, ${handlesOf(set) ?? "no"} handles, in ${folder}`;
}
