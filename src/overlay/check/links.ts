// Judges link counts and the records of them.

import type { Layer } from "../../layer/layer.ts";
import { namesOf, visitEntries } from "../../linux/directory.ts";
import { close, O, openAt } from "../../linux/open.ts";
import { fstat, Stat, statAt } from "../../linux/stat.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { ifThere, isFound, must } from "../../vfs/system-errors.ts";
import { parseLinkCount } from "../format/link-delta.ts";
import { type Check, namesOfFolder } from "./context.ts";
import { isGone, withAdvice } from "./directories.ts";
import type { IndexEntry, LowerObject } from "./index.ts";
import { handle, inodeKey, type LowerDirectory, type MergedDirectory } from "./union.ts";
import { type Claim, markOf, shown, type Walked } from "./upper.ts";
import type { LinkRecord } from "./work.ts";

/** A name of a lower file that the overlay shows as it is. */
interface Seen {
	readonly directory: MergedDirectory;
	readonly name: Buffer;
}

/** Judges files by how many names are to be seen of them, in upper and in the lowers. */
export function judgeLinks(check: Check, index: ReadonlyMap<string, IndexEntry>, walked: Walked, records: readonly LinkRecord[]): void {
	const judge = new LinkJudge(check, index, walked);
	for (const entry of index.values()) {
		if (entry.kind === "file") judge.indexed(entry);
		else if (entry.kind === "tombstone" && entry.lower.type !== FileType.dir) judge.tombstone(entry);
	}
	for (const record of records) judge.record(record);
	for (const claims of walked.claims.values()) judge.claims(claims);
	judge.conclude();
	judgeOutside(check, walked);
}

/** A judgement that may have to wait until it is known which lower names are to be seen. */
type Verdict = (seen: readonly Seen[]) => void;

class LinkJudge {
	readonly #check: Check;
	readonly #index: ReadonlyMap<string, IndexEntry>;
	readonly #walked: Walked;
	/** By inode of the lower file. */
	readonly #waiting = new Map<string, { readonly lower: LowerObject; readonly verdicts: Verdict[]; readonly seen: Seen[] }>();
	readonly #unnamed: ReadonlySet<string>;

	constructor(check: Check, index: ReadonlyMap<string, IndexEntry>, walked: Walked) {
		this.#check = check;
		this.#index = index;
		this.#walked = walked;
		this.#unnamed = new Set(namesOfFolder(check.layers.own, "unnamed").map((name) => name.toString("latin1")));
	}

	/** Names of a lower file that do not lie right under a name of upper. They may be hidden in other ways, or lie in no layer. */
	#perhapsSeen(lower: LowerObject): number {
		return Math.max(0, lower.nlink - (this.#walked.hidden.get(lower.key) ?? 0));
	}

	/** Lets a verdict wait for a walk over the lowers if it could depend on that. */
	#decide(lower: LowerObject, needsNames: boolean, verdict: Verdict): void {
		if (!needsNames || this.#perhapsSeen(lower) === 0) {
			verdict([]);
			return;
		}
		const waiting = this.#waiting.get(lower.key) ?? { lower, verdicts: [], seen: [] };
		waiting.verdicts.push(verdict);
		this.#waiting.set(lower.key, waiting);
	}

	tombstone({ lower }: IndexEntry): void {
		this.#decide(lower, true, (seen) => {
			for (const { directory, name } of seen) {
				// then that one is told of
				if (isGone(this.#index, directory)) continue;
				this.#whiteoutMissing(directory, name, "The index says that this file is gone, and it is still to be seen: a whiteout is missing.");
			}
		});
	}

	#whiteoutMissing(directory: MergedDirectory, name: Buffer, message: string): void {
		const path = shown(`${directory.path}/${showName(name)}`);
		const remedy = this.#check.whiteout(directory.upper, name);
		this.#check.error("whiteout-missing", path, withAdvice(message, directory), remedy);
	}

	indexed(entry: IndexEntry): void {
		const file = this.#walked.files.get(entry.key);
		const names = file?.names ?? 0;
		const path = file === undefined ? `index/${entry.name}` : shown(file.path);
		const { lower } = entry;
		const isNoted = this.#unnamed.has(entry.name);
		const count = this.#countOf(entry);
		const perhaps = this.#perhapsSeen(lower);
		// our look-ups ask the index for a file of one name only where such files are noted
		const mayBeUnnoted = names === 0 && lower.nlink === 1 && this.#check.isOurs && !isNoted;
		const needsNames = count === null || count < names + perhaps || mayBeUnnoted;
		this.#decide(lower, needsNames, (seen) => {
			const visible = names + seen.length;
			const isUnseen = lower.nlink === 1 && seen.length === 0 && (perhaps === 0 || needsNames);
			if (visible === 0 && (isUnseen || (count !== null && count < 1))) this.#orphan(entry, count);
			else if (count === null) this.#wrongCount("link-count-malformed", path, entry, visible, "cannot be understood");
			else if (count < visible) this.#tooMany(entry, path, count, names, seen);
			if (mayBeUnnoted && seen.length > 0) this.#unnoted(entry);
		});
	}

	/** More names are to be seen of a copied-up file than it has. Of a lower file of one name that one was moved, and shows itself still. */
	#tooMany(entry: IndexEntry, path: string, count: number, names: number, seen: readonly Seen[]): void {
		const wasMoved = names > 0 && seen.length > 0 && entry.lower.nlink === 1;
		const right = wasMoved ? names : names + seen.length;
		if (wasMoved) for (const { directory, name } of seen) this.#moved(directory, name, path);
		if (count < right) this.#wrongCount("link-count-low", path, entry, right, `is ${count}, but ${right} names are to be seen`);
	}

	/** Names that the union counts of a copied-up file; null where what says it cannot be understood. */
	#countOf(entry: IndexEntry): number | null {
		if (entry.upper === null) return null;
		const fd = ifThere(this.#check.layers.upper.handles.open(entry.upper, O.path | O.nofollow), "Cannot open an object of upper");
		if (fd < 0) return null;
		const value = markOf(this.#check, fd, entry.lower.type, this.#check.layers.xattr.nlink);
		close(fd);
		// all links but the one in the index
		if (typeof value === "number") return entry.nlink - 1;
		const parsed = parseLinkCount(value.toString("latin1"));
		return parsed === null ? null : (parsed.of === "upper" ? entry.nlink : entry.lower.nlink) + parsed.delta;
	}

	#orphan({ name }: IndexEntry, count: number | null): void {
		// after a mount the kernel counts one name too many, and so leaves the entry when the last one goes
		const isOfKernel = !this.#check.isOurs && count !== null && count <= 1;
		const message = "No name of the file is left, and the index does not say that it is gone.";
		this.#check[isOfKernel ? "note" : "error"]("index-orphan", `index/${name}`, message, {
			does: "says so in the index, and moves the file to work/holdfast/lost+found",
			make: () => this.#check.repairs.bury(name),
		});
	}

	#wrongCount(kind: "link-count-malformed" | "link-count-low", path: string, entry: IndexEntry, visible: number, what: string): void {
		const { nlink } = this.#check.layers.xattr;
		const delta = visible - entry.nlink;
		const value = `U${delta < 0 ? "" : "+"}${delta}`;
		this.#check.error(kind, path, `The number of names that the file has (xattr ${nlink}) ${what}.`, {
			does: `sets it to ${visible}`,
			make: () => {
				if (entry.upper !== null) this.#check.repairs.setXattr(entry.upper, nlink, Buffer.from(value));
			},
		});
	}

	#moved(directory: MergedDirectory, name: Buffer, path: string): void {
		this.#whiteoutMissing(directory, name, `The file was moved to ${path}, and is still to be seen here too: a whiteout is missing.`);
	}

	#unnoted({ name }: IndexEntry): void {
		const message = "Only the index holds the file, which is not noted: under its name the lower one is shown, without what was written.";
		this.#check.error("index-unnamed", `index/${name}`, message, {
			does: "notes it in work/holdfast/unnamed",
			make: () => this.#check.repairs.writeRecord("holdfast/unnamed", name, "1"),
		});
	}

	record({ entry, lower, count }: LinkRecord): void {
		if (count === null) {
			// of names that lie outside of the layers nothing is known: they count
			const left = this.#perhapsSeen(lower);
			this.#check.error(
				"link-record-wrong",
				`work/holdfast/links/${entry}`,
				"The recorded number of names that are left cannot be understood.",
				{
					does: left > 0 ? `sets it to ${left}` : "moves it to work/holdfast/lost+found",
					make: () =>
						left > 0
							? this.#check.repairs.writeRecord("holdfast/links", entry, String(left))
							: this.#check.repairs.moveAside("holdfast/links", Buffer.from(entry)),
				},
			);
			return;
		}
		const needsNames = count < this.#perhapsSeen(lower);
		this.#decide(lower, needsNames, (seen) => {
			if (count >= seen.length) return;
			const message = `The recorded number of names that are left is ${count}, but ${seen.length} are to be seen.`;
			this.#check.error("link-record-wrong", `work/holdfast/links/${entry}`, message, {
				does: `sets it to ${seen.length}`,
				make: () => this.#check.repairs.writeRecord("holdfast/links", entry, String(seen.length)),
			});
		});
	}

	/** Objects of upper that were copied up, as they say themselves, and that the index does not have. */
	claims(claims: readonly Claim[]): void {
		for (const claim of claims) {
			if (claims.length > 1) this.#claimedTwice(claim, claims);
			else if (claim.isDirectory) this.#notIndexed(claim, this.#isElsewhere(claim));
			else this.#decide(claim.lower, claim.lower.nlink === 1, (seen) => this.#notIndexed(claim, seen.length > 0));
		}
	}

	/** Whether something else shows the lower directory that one of upper says it was born as. */
	#isElsewhere({ lower, key }: Claim): boolean {
		return this.#check.places.of(lower.layer, lower.handle).some((place) => place.upper?.key !== key);
	}

	#claimedTwice(claim: Claim, claims: readonly Claim[]): void {
		const other = claims.find(({ key }) => key !== claim.key) as Claim;
		const message = `The object says that it was copied up from the same one as ${shown(other.path)} does.`;
		const severity = this.#walked.isComplete || claim.isDirectory ? "error" : "note";
		this.#check[severity]("origin-claimed-twice", shown(claim.path), message);
		this.#disbelieve(claim);
	}

	#disbelieve({ identity, path, handle: id }: Claim): void {
		if (identity === "none") return;
		const xattr = this.#check.layers.xattr.identity;
		const message = `The object claims an identity (xattr ${xattr}) that the index does not lead back from: it was planted, or copied along.`;
		const make = () => this.#check.repairs.removeXattr(id, xattr);
		this.#check.error("identity-not-believed", shown(path), message, { does: "removes the xattr", make });
	}

	#notIndexed(claim: Claim, isElsewhere: boolean): void {
		const check = this.#check;
		const path = shown(claim.path);
		if (isElsewhere) {
			const message =
				"The object was copied up, and the lower one is still to be seen: it was moved without a whiteout, or copied behind the overlay's back. " +
				`Remove the other one through the overlay, or the xattr ${check.layers.xattr.origin} of this one.`;
			check.error("shown-twice", path, message);
			this.#disbelieve(claim);
			return;
		}
		if (this.#walked.isComplete) {
			const message = "The object was copied up, and the index does not have it: the handle of the lower one leads to the old state.";
			if (check.isOurs) check.error("not-indexed", path, message, { does: "enters it", make: () => this.#enter(claim) });
			else check.note("not-indexed", path, message);
		}
		if (claim.identity === "another" || !check.isOurs) this.#disbelieve(claim);
	}

	#enter(claim: Claim): void {
		const { repairs } = this.#check;
		if (claim.isDirectory) {
			repairs.indexDirectory(claim.handle, claim.record);
			return;
		}
		const names = (this.#walked.files.get(claim.key)?.names ?? 1) + this.#perhapsSeen(claim.lower);
		const delta = names - (claim.nlink + 1);
		repairs.indexFile(claim.handle, claim.record, claim.hasLinkCount ? null : `U${delta < 0 ? "" : "+"}${delta}`);
	}

	/** Gives all verdicts that had to wait, after one walk over the lowers. */
	conclude(): void {
		if (this.#waiting.size === 0) return;
		const numbers = new Set([...this.#waiting.values()].map(({ lower }) => inodeNumber(lower.inoHi, lower.inoLo)));
		walkLowers(this.#check, numbers, (directory, name, key) => {
			const waiting = this.#waiting.get(key);
			if (waiting !== undefined) waiting.seen.push(...this.#placesOf(directory, name, key));
		});
		for (const { verdicts, seen } of this.#waiting.values()) for (const verdict of verdicts) verdict(seen);
	}

	/** Where the overlay shows a name of a lower directory, and under it that very file. */
	#placesOf(directory: LowerDirectory, name: Buffer, key: string): Seen[] {
		const { places } = this.#check;
		const seen: Seen[] = [];
		for (const place of places.of(directory.layer, directory.handle)) {
			if (places.isCovered(place, name)) continue;
			const found = places.lower(place, name);
			if (found.kind === "file" && found.layer === directory.layer && inodeKey(found.stat) === key) seen.push({ directory: place, name });
		}
		return seen;
	}
}

/** Exact enough to choose what is looked at more closely. */
function inodeNumber(hi: number, lo: number): number {
	return hi * 0x100000000 + lo;
}

/** Visits all names of lower files with these inode numbers. */
function walkLowers(
	check: Check,
	numbers: ReadonlySet<number>,
	visit: (directory: LowerDirectory, name: Buffer, key: string) => void,
): void {
	const pending: LowerDirectory[] = [...check.union.roots];
	let directories = 0;
	for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
		check.tell("lowers", ++directories);
		const lower = check.layers.lowers[at.layer];
		const fd = must(lower.handles.open(at.handle, O.rdonly | O.directory), `Cannot open a directory of ${lower.path}`);
		try {
			const { names, subdirectories } = listLower(fd, numbers);
			const stat = new Stat();
			for (const name of names) if (isFound(statAt(fd, name, stat), "Cannot read a file of a lower")) visit(at, name, inodeKey(stat));
			for (const name of subdirectories) {
				const directory = lowerDirectory(lower, fd, name, at.layer);
				const { devMajor, devMinor } = lower.rootStat;
				if (directory?.key.startsWith(`${devMajor}:${devMinor}:`)) pending.push(directory);
			}
		} finally {
			close(fd);
		}
	}
}

function listLower(fd: number, numbers: ReadonlySet<number>): { readonly names: Buffer[]; readonly subdirectories: Buffer[] } {
	const names: Buffer[] = [];
	const subdirectories: Buffer[] = [];
	const status = visitEntries(fd, (name, type, hi, lo) => {
		if (type === FileType.dir || type === 0) subdirectories.push(Buffer.from(name));
		if (type !== FileType.dir && numbers.has(inodeNumber(hi, lo))) names.push(Buffer.from(name));
		return undefined;
	});
	must(status, "Cannot read a directory of a lower");
	return { names, subdirectories };
}

function lowerDirectory(lower: Layer, parent: number, name: Buffer, layer: number): LowerDirectory | null {
	const fd = ifThere(openAt(parent, name, O.path | O.directory | O.nofollow), "Cannot open a directory of a lower");
	if (fd < 0) return null;
	const stat = new Stat();
	must(fstat(fd, stat), "Cannot read a directory of a lower");
	const directory = { layer, handle: handle(lower, fd), key: inodeKey(stat), whiteoutXattr: null };
	close(fd);
	return directory;
}

/** Notes upper files that have names outside of upper and work: somebody else may write to them. */
function judgeOutside(check: Check, walked: Walked): void {
	const inside = linksInWork(check);
	for (const [key, { path, names, nlink }] of walked.files) {
		const outside = nlink - names - (inside.get(key) ?? 0);
		if (outside <= 0) continue;
		const message = `The file has ${outside} more ${outside === 1 ? "name" : "names"} outside of upper: whoever writes to it there writes to it here.`;
		check.note("names-outside", shown(path), message);
	}
}

/** Names of upper files in work: in the index, of what is being built, of what is held open, and of what was moved aside. */
function linksInWork(check: Check): Map<string, number> {
	const links = new Map<string, number>();
	const { temporaries, own, index } = check.layers;
	const count = (folder: number) => {
		if (folder < 0) return;
		const stat = new Stat();
		for (const name of must(namesOf(folder), "Cannot read a folder of work")) {
			if (!isFound(statAt(folder, name, stat), "Cannot read a folder of work") || stat.type === FileType.dir) continue;
			const key = inodeKey(stat);
			links.set(key, (links.get(key) ?? 0) + 1);
		}
	};
	count(temporaries);
	// entries that lead nowhere are names all the same
	count(index);
	for (const folder of ["orphans", "trash", "lost+found"]) {
		const fd = own < 0 ? own : ifThere(openAt(own, folder, O.rdonly | O.directory), "Cannot open a folder of work");
		count(fd);
		if (fd >= 0) close(fd);
	}
	return links;
}
