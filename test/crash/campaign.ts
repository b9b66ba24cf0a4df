import { lstatSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { unseal } from "../../src/layer/sealed-record.ts";
import { ERRNO } from "../../src/linux/errno.ts";
import { interceptChanges } from "../../src/linux/libc.ts";
import { close, O, openPath } from "../../src/linux/open.ts";
import { getXattr } from "../../src/linux/xattr.ts";
import type { Node } from "../../src/overlay/nodes/node.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import type { ChangeKey } from "../../src/vfs/operations.ts";
import { keyed, keyOf } from "../in-process/keyed.ts";
import type { Operation } from "./operations.ts";
import type { PowerDisk } from "./power-disk.ts";
import { bytes, CrashError, counting, type Keeping, type Lowers, ROOT, Stage } from "./stage.ts";
import { difference, Names, type Seen, seenBy, type Tree } from "./tree.ts";

/** A stage at the moment before the operation. */
interface Start {
	readonly stage: Stage;
	readonly before: Tree;
	readonly names: Names;
	/** Of the request that the same client sent before. */
	readonly lastHandle: string;
}

interface Answer {
	readonly error: string | null;
	readonly handle: Buffer | null;
}

/** How an undisturbed run ends. */
interface Outcome {
	readonly calls: readonly string[];
	readonly before: readonly string[];
	readonly after: readonly string[];
	readonly answer: string;
	/** Of each object that there was before: what its handle finds afterwards. */
	readonly fates: ReadonlyMap<string, string>;
	readonly disk: readonly string[];
}

export interface Counts {
	/** Calls of undisturbed runs. */
	calls: number;
	/** Those before which the world was stopped, one run each, and the runs stopped behind the last one. */
	points: number;
	/** Calls of recoveries before which the world was stopped once more. */
	recoveryPoints: number;
	/** Starts on a full disk that left a change to be completed later, and changes that were made meanwhile. */
	postponed: number;
	madeMeanwhile: number;
	/** Requests answered with an error because a call was refused. */
	refused: number;
}

export function noCounts(): Counts {
	return { calls: 0, points: 0, recoveryPoints: 0, postponed: 0, madeMeanwhile: 0, refused: 0 };
}

export interface Options {
	/** Requests of another client before the last repetition. */
	readonly others: number;
	/** Of how many crash points, those with the longest recoveries, the recovery is stopped at each of its calls too. */
	readonly recoveries: number;
	/** Of this many crash points one is tried, beginning with that of number `first`. */
	readonly stride: number;
	readonly first: number;
	/** Of this many crash points one gets the request once more, after a further restart. */
	readonly repetitions: number;
	/** The disk is full when the server is started again, and has room some time later. */
	readonly isFull?: boolean;
}

/** Calls for which a full disk may have no room. The journal has some of its own, and folders that a start makes are there. */
const NEED_ROOM: ReadonlySet<string> = new Set(["linkat", "renameat2", "symlinkat", "mknodat", "openat", "setxattr", "fallocate"]);

/** How the calls of an operation are refused: one, or it and all behind it that take room. */
interface Refusal {
	readonly error: "ENOSPC" | "EDQUOT";
	readonly isFrom: boolean;
}

const REFUSALS: readonly Refusal[] = [
	{ error: "ENOSPC", isFrom: true },
	{ error: "EDQUOT", isFrom: false },
];

/** Calls for which there is always room. */
const NEVER_FULL: ReadonlySet<string> = new Set(["unlinkat", "utimensat"]);

const CLIENT = "client";
const LAST = keyOf(CLIENT, 1);
const REQUEST = keyOf(CLIENT, 2);
/** The same by another program, or later. */
const REPEATED = keyOf(CLIENT, 3);

let serial = 0;

/** Crashes of one operation, at each of its calls. Whatever is wrong is told to `fail`, and the campaign goes on. */
export class Campaign {
	readonly #lowers: Lowers;
	readonly #operation: Operation;
	readonly #fail: (what: string) => void;
	readonly #lowersBefore: string;
	readonly #disk: PowerDisk | null;
	readonly #isPartial: boolean;
	readonly #keeping: Keeping;
	readonly counts = noCounts();

	/** With a disk its power fails instead of a process being killed. */
	constructor(
		lowers: Lowers,
		operation: Operation,
		fail: (what: string) => void,
		disk: PowerDisk | null = null,
		isPartial = false,
		keeping: Keeping = "kernel",
	) {
		this.#keeping = keeping;
		this.#disk = disk;
		this.#isPartial = isPartial;
		this.#lowers = lowers;
		this.#operation = operation;
		this.#fail = (what) => fail(`${operation.name}: ${what}`);
		this.#lowersBefore = lowers.inodes();
	}

	async run(options: Options): Promise<void> {
		const outcome = await this.#undisturbed(options.others);
		this.counts.calls = outcome.calls.length;
		const recoveries: { k: number; calls: number }[] = [];
		for (let k = options.first % options.stride; k <= outcome.calls.length; k += options.stride) {
			const calls = await this.#crash(outcome, k, null, this.counts.points % options.repetitions === 0, options.isFull);
			recoveries.push({ k, calls });
			this.counts.points++;
		}
		// the longest recoveries
		recoveries.sort((a, b) => b.calls - a.calls);
		for (const { k, calls } of recoveries.slice(0, options.recoveries)) {
			for (let j = 0; j < calls; j++) {
				await this.#crash(outcome, k, j, j % options.repetitions === 0);
				this.counts.recoveryPoints++;
			}
		}
		if (this.#lowers.inodes() !== this.#lowersBefore) this.#fail("a lower has changed");
	}

	/** Refuses calls of the operation in an open overlay, as a full disk does: the answer agrees with what is there, also after a restart. */
	async runRefused({ stride, first }: Pick<Options, "stride" | "first">): Promise<void> {
		const outcome = await this.#undisturbed(0);
		this.counts.calls = outcome.calls.length;
		const ways = REFUSALS.flatMap((refusal) => outcome.calls.map((_, k) => ({ refusal, k })));
		for (let at = first % stride; at < ways.length; at += stride) {
			const { refusal, k } = ways[at];
			if (refusal.isFrom ? !NEED_ROOM.has(outcome.calls[k]) : NEVER_FULL.has(outcome.calls[k])) continue;
			await this.#refuse(outcome, refusal, k, at % 2 === 0);
			this.counts.points++;
		}
		if (this.#lowers.inodes() !== this.#lowersBefore) this.#fail("a lower has changed");
	}

	async #refuse(undisturbed: Outcome, { error, isFrom }: Refusal, k: number, isKilled: boolean): Promise<void> {
		const outcome = withoutTimes(undisturbed);
		const { stage, before, names } = await this.#start();
		const where = `${isFrom ? "no room from" : `${error} of`} ${outcome.calls[k]} (${k} of ${outcome.calls.length})`;
		const code = error === "EDQUOT" ? "dquot" : "nospc";
		try {
			const answer = await refusing(ERRNO[error], k, isFrom, () => this.#send(stage, REQUEST, before));
			if (answer.error !== null) this.counts.refused++;
			if (answer.error === "tryagain") this.counts.postponed++;
			else if (answer.error !== null && answer.error !== code) this.#fail(`${where}: answered ${answer.error}`);
			await this.#checkRefused(outcome, stage, before, names, answer.error, where);
			if (isKilled) stage.abandon();
			else await stage.close();
			stage.open();
			await this.#checkRefused(
				outcome,
				stage,
				before,
				names,
				answer.error,
				`${where}, ${isKilled ? "killed" : "stopped"} and started again`,
			);
			// a guard is of the ctime before
			if (answer.error !== null && !this.#operation.name.startsWith("guarded")) {
				// what was looked at has names that the first run did not know
				if (this.#operation.byHandle) await stage.restart();
				const again = await this.#send(stage, answer.error === "tryagain" ? REQUEST : REPEATED, before);
				const told = this.#describe(again, names, await stage.observe());
				if (told !== outcome.answer) this.#fail(`${where}: sent again it is answered ${told} and not ${outcome.answer}`);
				const wrong = difference(outcome.after, names.describe(await stage.observe()).map(withoutTime));
				if (wrong !== "") this.#fail(`${where}: sent again it leaves\n${wrong}`);
			}
			this.#checkRest(stage, `${where}, started again`);
			// a copy that was made of an object without a known name has been looked at by its names since
			const isOther = this.#operation.name.startsWith("guarded") || this.#operation.byHandle;
			const rest = isOther ? "" : difference(outcome.disk, disk(stage));
			if (rest !== "") this.#fail(`${where}: sent again it leaves on disk\n${rest}`);
		} catch (error) {
			this.#fail(`${where}: ${(error as Error).stack}`);
		} finally {
			await stage.close();
			stage.remove();
		}
	}

	/** With room again. */
	async #checkRefused(outcome: Outcome, stage: Stage, before: Tree, names: Names, error: string | null, where: string): Promise<void> {
		const { engine } = stage.overlay;
		engine.memory.changes++;
		stage.overlay.beginPass();
		const left = engine.writable?.journal.postponed.length;
		if (left !== 0) this.#fail(`${where}: with room, ${left} changes are still not completed`);
		const isMade = error === null || error === "tryagain";
		const now = names.describe(await stage.observe(true)).map(withoutTime);
		const wrong = difference(isMade ? outcome.after : outcome.before, now);
		if (wrong !== "") this.#fail(`${where}: answered ${error ?? "ok"}, and then there is\n${wrong}`);
		for (const [path, fate] of fates(stage, before)) {
			const expected = isMade ? outcome.fates.get(path) : "itself";
			if (fate !== expected) this.#fail(`${where}: answered ${error ?? "ok"}, the handle of ${path} finds ${fate} and not ${expected}`);
		}
	}

	async #start(): Promise<Start> {
		const stage = new Stage(this.#lowers, `stage${serial++}`, this.#disk, this.#isPartial, this.#keeping);
		await stage.build();
		await this.#operation.prepare?.(stage);
		const last = await this.#send(stage, LAST);
		await stage.overlay.stable();
		stage.age();
		await stage.restart();
		// what clients wrote unstably before is not what this is about
		this.#disk?.flush();
		const before = await stage.observe();
		if (this.#operation.byHandle) await stage.restart();
		return { stage, before, names: new Names(before), lastHandle: last.handle?.toString("hex") ?? "" };
	}

	/** One request, as the front end passes it on. */
	async #send(stage: Stage, key: ChangeKey, before?: Tree): Promise<Answer> {
		try {
			return await stage.settle(() => this.#sendOnce(stage, key, before));
		} catch (error) {
			if (error instanceof OverlayError) return { error: error.code, handle: null };
			throw error;
		}
	}

	/** The same in one pass. OverlayError. */
	#sendOnce(stage: Stage, key: ChangeKey, before?: Tree): Answer {
		const overlay = keyed(stage.overlay, key);
		const of = (path: string) => {
			const seen = before?.get(path);
			if (seen === undefined) throw new Error(`there was no ${path}`);
			return seen;
		};
		const act = {
			overlay,
			at: (path: string) => overlay.decode(Buffer.from(of(path).handle, "hex")) as Node,
			ctime: (path: string) => {
				const [sec, nsec] = of(path).ctime.split(".").map(Number);
				return { sec, nsec };
			},
		};
		const made = key === LAST ? overlay.symlink(overlay.root, bytes("last"), ROOT, bytes("x"), {}) : this.#operation.run(act);
		if (made === undefined) return { error: null, handle: null };
		if (made === null) throw new TypeError("nothing was made, and no error");
		overlay.getattr(made);
		return { error: null, handle: made.handle };
	}

	#describe(answer: Answer, names: Names, tree: Tree): string {
		return answer.error ?? `ok ${names.nameOf(answer.handle, tree)}`;
	}

	async #undisturbed(others: number): Promise<Outcome> {
		const { stage, before, names } = await this.#start();
		const { calls, value: answer } = await counting(Number.POSITIVE_INFINITY, () => this.#send(stage, REQUEST, before));
		const live = await stage.observe(true);
		await stage.restart();
		const after = await stage.observe(true);
		const gone = difference(lines(live), lines(after));
		if (gone !== "") this.#fail(`a restart changes\n${gone}`);
		const outcome = {
			calls,
			before: names.describe(before),
			after: names.describe(after),
			answer: this.#describe(answer, names, after),
			fates: fates(stage, before),
			disk: disk(stage),
		};
		if ((this.#operation.error ?? null) !== answer.error) this.#fail(`it is answered ${outcome.answer}`);
		this.#checkRest(stage, "undisturbed");
		for (const time of [1, 2, 3]) await this.#again(stage, before, names, outcome, answer, `undisturbed, sent again for time ${time}`);
		await this.#otherRequests(stage, others);
		await stage.restart();
		const later = await this.#send(stage, REQUEST, before);
		if (!isSame(later, answer)) this.#fail(`after requests of others it is answered ${later.error ?? later.handle?.toString("hex")}`);
		await stage.close();
		stage.remove();
		return outcome;
	}

	/** Sends the request once more after a restart: the answer is the same, and nothing changes. */
	async #again(stage: Stage, before: Tree, names: Names, outcome: Outcome, answer: Answer, when: string): Promise<void> {
		await stage.restart();
		const tree = await stage.observe();
		const repeated = await this.#send(stage, REQUEST, before);
		if (!isSame(repeated, answer)) this.#fail(`${when}: answered ${this.#describe(repeated, names, tree)} and not ${outcome.answer}`);
		const now = await stage.observe();
		const changed = this.#operation.isRepeatable ? "" : difference(lines(tree), lines(now));
		if (changed !== "") this.#fail(`${when}: it changes\n${changed}`);
	}

	async #otherRequests(stage: Stage, count: number): Promise<void> {
		for (let xid = 1; xid <= count; xid++) {
			const overlay = keyed(stage.overlay, keyOf("another", xid));
			await stage.settle(() => {
				try {
					if (xid % 8 === 1) overlay.symlink(overlay.root, bytes("another"), ROOT, bytes("x"), {});
					else overlay.remove(overlay.root, bytes("another"), ROOT);
				} catch (error) {
					if (!(error instanceof OverlayError && error.code === "noent")) throw error;
				}
			});
		}
	}

	/** Stops before call `k`, and when `j` is given before call `j` of the recovery. The number of calls of the last recovery. */
	async #crash(outcome: Outcome, k: number, j: number | null, isRepeated: boolean, isFull = false): Promise<number> {
		const { stage, before, names, lastHandle } = await this.#start();
		const call = outcome.calls[k] ?? "the reply";
		let where = `crash before ${call} (${k} of ${outcome.calls.length})`;
		await stopped(() => counting(k, () => this.#send(stage, REQUEST, before)));
		if (this.#disk === null) stage.abandon();
		else await stage.cutPower(k % 5 !== 4);
		if (j !== null) {
			where += `, and before call ${j} of the recovery`;
			await stopped(() => counting(j, () => stage.open()));
			if (stage.isOpen) await (this.#disk === null ? stage.abandon() : stage.cutPower(true));
			else if (this.#disk !== null) cycle(this.#disk);
		}
		try {
			if (isFull) await this.#openFull(stage, before, where);
			const { calls } = isFull ? { calls: [] } : await counting(Number.POSITIVE_INFINITY, () => stage.open());
			const answer = await this.#checkAfterCrash(isFull ? withoutTimes(outcome) : outcome, stage, before, names, lastHandle, where, isFull);
			if (isRepeated) await this.#again(stage, before, names, outcome, answer, `${where}, sent once more`);
			return calls.length;
		} catch (error) {
			this.#fail(`${where}: ${(error as Error).stack}`);
			return 0;
		} finally {
			await stage.close();
			stage.remove();
		}
	}

	/**
	 * Starts on a disk without room, twice. What else is there is served and can be changed; what was under way is answered "tryagain" or as before.
	 * Then there is room.
	 */
	async #openFull(stage: Stage, before: Tree, where: string): Promise<void> {
		interceptChanges((name) => (NEED_ROOM.has(name) ? ERRNO.ENOSPC : undefined));
		try {
			stage.open();
			await stage.restart();
			const isPostponed = stage.overlay.engine.writable?.journal.postponed.length !== 0;
			if (isPostponed) this.counts.postponed++;
			const code = await this.#tryChange(stage, () => {
				const { overlay } = stage;
				overlay.setattr(overlay.decode(Buffer.from((before.get("merged/new") as Seen).handle, "hex")), ROOT, { mode: 0o644 });
			});
			if (code === "ok" && isPostponed) this.counts.madeMeanwhile++;
			if (!["ok", "nospc", "tryagain"].includes(code)) this.#fail(`${where}, on a full disk: another change is answered ${code}`);
			const again = isPostponed ? await this.#tryChange(stage, () => this.#sendOnce(stage, REQUEST, before)) : "tryagain";
			if (again !== "tryagain") this.#fail(`${where}, on a full disk: sent again it is answered ${again}`);
			for (const [path, { handle }] of before) {
				const seen = await this.#tryChange(stage, () => seenBy(stage, Buffer.from(handle, "hex")));
				if (!["ok", "tryagain", "stale"].includes(seen)) this.#fail(`${where}, on a full disk: ${path} is answered ${seen}`);
			}
		} finally {
			interceptChanges(null);
		}
		const { memory } = stage.overlay.engine;
		memory.changes++;
		stage.overlay.beginPass();
		const left = stage.overlay.engine.writable?.journal.postponed.length;
		if (left !== 0) this.#fail(`${where}: with room, ${left} changes are still not completed`);
	}

	async #tryChange(stage: Stage, change: () => unknown): Promise<string> {
		try {
			await stage.settle(change);
			return "ok";
		} catch (error) {
			if (error instanceof OverlayError) return error.code;
			throw error;
		}
	}

	async #checkAfterCrash(
		outcome: Outcome,
		stage: Stage,
		before: Tree,
		names: Names,
		lastHandle: string,
		where: string,
		isFull: boolean,
	): Promise<Answer> {
		const describe = (tree: Tree) => (isFull ? names.describe(tree).map(withoutTime) : names.describe(tree));
		const tree = await stage.observe(true);
		const described = describe(tree);
		const fromBefore = difference(outcome.before, described);
		const fromAfter = difference(outcome.after, described);
		if (fromBefore !== "" && fromAfter !== "")
			this.#fail(`${where}: half done; against before:\n${fromBefore}\nagainst after:\n${fromAfter}`);
		const found = fates(stage, before);
		for (const [path, fate] of found) {
			const expected = fromBefore === "" && fromAfter !== "" ? "itself" : outcome.fates.get(path);
			if (fate !== expected) this.#fail(`${where}: the handle of ${path} finds ${fate} and not ${expected}`);
		}
		this.#checkRest(stage, where);
		const last = await this.#send(stage, LAST);
		if (last.handle?.toString("hex") !== lastHandle) this.#fail(`${where}: the request before it gets another answer`);
		// what was looked at has names that the first run did not know
		if (this.#operation.byHandle) await stage.restart();
		const answer = await this.#send(stage, REQUEST, before);
		const now = await stage.observe();
		const told = this.#describe(answer, names, now);
		if (told !== outcome.answer) this.#fail(`${where}: sent again it is answered ${told} and not ${outcome.answer}`);
		const wrong = difference(outcome.after, describe(now));
		if (wrong !== "") this.#fail(`${where}: sent again it leaves\n${wrong}`);
		this.#checkRest(stage, `${where}, sent again`);
		const rest = difference(outcome.disk, disk(stage));
		if (rest !== "") this.#fail(`${where}: sent again it leaves on disk\n${rest}`);
		return answer;
	}

	/** What portable ids lead to is there, and has them. */
	#checkIds(stage: Stage, where: string): void {
		const own = join(stage.work, "holdfast");
		for (const name of readdirSync(join(own, "ids"))) {
			const path = join(own, "ids", name);
			const stat = lstatSync(path);
			if (stat.nlink < 2) this.#fail(`${where}: ids/${name} is all that is left of an object`);
			if (!stat.isFile()) continue;
			const id = Buffer.from(xattr(path, `${stage.prefix}holdfast`), "latin1").toString("hex");
			if (id.slice(2) !== name) this.#fail(`${where}: ids/${name} leads to an object with the id ${id}`);
		}
		for (const name of readdirSync(join(own, "inodes"))) {
			const id = recordIn(join(own, "inodes"), name);
			if (name.endsWith(".new")) this.#fail(`${where}: inodes/${name} is left half written`);
			else if (lstatSync(join(own, "ids", id), { throwIfNoEntry: false }) === undefined)
				this.#fail(`${where}: inodes/${name} has the id ${id}, which leads nowhere`);
		}
		const directories = readdirSync(join(own, "directories"));
		const root = "0".repeat(32);
		const placeOf = (id: string): string => {
			if (id === root) return stage.upper;
			const target = recordIn(join(own, "directories"), id);
			return join(placeOf(target.slice(0, 32)), target.slice(33));
		};
		for (const name of directories) {
			try {
				if (name.endsWith(".new")) throw new Error("it is left half written");
				const id = Buffer.from(xattr(placeOf(name), `${stage.prefix}holdfast`), "latin1").toString("hex");
				if (id.slice(2) !== name) throw new Error(`${placeOf(name)} has the id ${id}`);
			} catch (error) {
				this.#fail(`${where}: directories/${name}: ${(error as Error).message}`);
			}
		}
		const visit = (path: string) => {
			for (const name of readdirSync(path, { withFileTypes: true })) {
				if (!name.isDirectory()) continue;
				const below = join(path, name.name);
				const id = Buffer.from(xattr(below, `${stage.prefix}holdfast`), "latin1")
					.toString("hex")
					.slice(2);
				if (!directories.includes(id)) this.#fail(`${where}: nothing leads to the directory ${below} with the id ${id}`);
				visit(below);
			}
		};
		visit(stage.upper);
	}

	/** Nothing of the change is left in work, and every index entry is of use. */
	#checkRest(stage: Stage, where: string): void {
		for (const name of readdirSync(join(stage.work, "holdfast/trash"))) {
			const stat = lstatSync(join(stage.work, "holdfast/trash", name));
			if (!stat.isDirectory() && stat.nlink > 1) this.#fail(`${where}: an object with ${stat.nlink} links is in the trash`);
		}
		const work = readdirSync(join(stage.work, "work"));
		if (work.join() !== "incompat") this.#fail(`${where}: work holds ${work.join()}`);
		const unnamed = new Set(readdirSync(join(stage.work, "holdfast/unnamed")));
		for (const name of readdirSync(stage.index)) {
			const path = join(stage.index, name);
			const stat = lstatSync(path);
			if (!stat.isFile() || isWhiteout(stage, path)) continue;
			const value = xattr(path, `${stage.prefix}nlink`);
			// of what was built with one name and its entry the count is not noted; by a portable id one more link leads to it
			const links = stat.nlink - (stage.keeping === "kernel" ? 0 : 1);
			const left = links + Number(value === "" ? -1 : value.slice(1));
			if (!(left > 0)) this.#fail(`${where}: an object without a name is left in the index`);
			if (unnamed.has(name) && links > 1 && left === 1) this.#fail(`${where}: the only name of an object is not counted as one`);
		}
		if (stage.keeping !== "kernel") this.#checkIds(stage, where);
		for (const name of readdirSync(join(stage.work, "holdfast/links"))) {
			if (name.endsWith(".new")) this.#fail(`${where}: a link count is left half written`);
		}
	}
}

/** What was made and had to be removed again has changed its directory. */
function withoutTime(line: string): string {
	return / dir /.test(line) ? line.replace(/ mtime=\w+$/, "") : line;
}

function withoutTimes(outcome: Outcome): Outcome {
	return { ...outcome, before: outcome.before.map(withoutTime), after: outcome.after.map(withoutTime) };
}

function cycle(disk: PowerDisk): void {
	disk.commit();
	disk.cut();
	disk.restore();
}

async function stopped(operation: () => Promise<unknown>): Promise<void> {
	try {
		await operation();
	} catch (error) {
		if (!(error instanceof CrashError)) throw error;
	}
}

/** Has call `k` of `operation` refused with this error number; with `isFrom` all behind it that may need room too. */
async function refusing<T>(errno: number, k: number, isFrom: boolean, operation: () => Promise<T>): Promise<T> {
	let calls = 0;
	interceptChanges((name) => {
		const at = calls++;
		return at === k || (isFrom && at > k && NEED_ROOM.has(name)) ? errno : undefined;
	});
	try {
		return await operation();
	} finally {
		interceptChanges(null);
	}
}

function lines(tree: Tree): string[] {
	return [...tree].map(([path, seen]) => `/${path} ${Object.values(seen).join(" ")}`);
}

function isSame(a: Answer, b: Answer): boolean {
	return a.error === b.error && (a.handle?.toString("hex") ?? "") === (b.handle?.toString("hex") ?? "");
}

/** What each handle from before finds now, found by the handle alone: the same object, or why not. */
function fates(stage: Stage, before: Tree): Map<string, string> {
	const found = new Map<string, string>();
	for (const [path, was] of before) {
		try {
			const is = seenBy(stage, Buffer.from(was.handle, "hex"));
			found.set(path, is.fileid === was.fileid && is.type === was.type ? "itself" : "an object with another fileid");
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
			found.set(path, error.code);
		}
	}
	return found;
}

function xattr(path: string, name: string): string {
	const fd = openPath(path, O.path | O.nofollow);
	const value = getXattr(fd, name);
	close(fd);
	return typeof value === "number" ? "" : value.toString("latin1");
}

const MARKS = ["opaque", "redirect", "impure", "nlink"];

function isWhiteout(stage: Stage, path: string): boolean {
	const stat = lstatSync(path);
	if (stat.isCharacterDevice() && stat.rdev === 0) return true;
	if (stage.keeping !== "ordinary" || !stat.isFile() || stat.size > 0) return false;
	return xattr(path, `${stage.prefix}whiteout`) !== "";
}

/** An entry of the index, or of what is named as it. By portable ids the uuid of the layer in it is another one in each stage. */
function entryName(stage: Stage, name: string): string {
	return stage.keeping === "kernel" ? name : name.slice(0, 10) + name.slice(42);
}

/** What a record that is a symlink says. */
function recordIn(folder: string, name: string): string {
	const value = unseal(name, readlinkSync(join(folder, name), { encoding: "buffer" }));
	if (value === null) throw new Error(`${folder}/${name} is damaged`);
	return value.toString();
}

/** What upper and work hold, without what differs from run to run. */
function disk(stage: Stage): string[] {
	const found: string[] = [];
	const visit = (path: string, name: string, toName = (child: string) => child) => {
		const stat = lstatSync(path);
		const marks = MARKS.map((mark) => xattr(path, stage.prefix + mark));
		if (stage.keeping === "ordinary") marks.push(xattr(path, "user.containers.override_stat"));
		// all whiteouts are one inode
		found.push(`${name} ${isWhiteout(stage, path) ? "whiteout" : `${stat.mode.toString(8)} nlink=${stat.nlink} ${marks.join(",")}`}`);
		if (stat.isDirectory()) for (const child of readdirSync(path)) visit(join(path, child), `${name}/${toName(child)}`);
	};
	visit(stage.upper, "upper");
	visit(stage.index, "index", (child) => entryName(stage, child));
	for (const name of ["links", "unnamed"]) {
		const folder = join(stage.work, "holdfast", name);
		for (const entry of readdirSync(folder)) found.push(`${name} ${entryName(stage, entry)} ${recordIn(folder, entry)}`);
	}
	if (stage.keeping !== "kernel") {
		for (const name of ["ids", "directories", "inodes"]) {
			found.push(`${name} ${readdirSync(join(stage.work, "holdfast", name)).length}`);
		}
	}
	return found;
}
