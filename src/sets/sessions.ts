// Sessions of `run`: which directories each has views of, in which sets its changes are, who keeps it, and who is in it.

import { fstatSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LayerError } from "../layer/layer-error.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { tryLock } from "../linux/file-system.ts";
import { close, O, openPath } from "../linux/open.ts";
import { makeFolder } from "../overlay/opening/export-paths.ts";
import { writeDurably } from "../overlay/work/registry.ts";
import { isSetName } from "./set-names.ts";

const FOLDER = "sessions";
const RECORD = "session.json";
const KEEPER = "keeper";
const MEMBERS = "members";
const LOOK_AGAIN_MS = 10;
const KEEP_ATTEMPTS_MAX = 500;
const FORMAT = 1;

/** A directory that a session has a view of. */
export interface View {
	readonly path: string;
	/** The set of changes. */
	readonly set: string;
}

/** What commands of a session may do beside its views. */
export interface SessionRights {
	readonly allow: readonly string[];
	readonly hide: readonly string[];
	readonly isNetworkOwn: boolean;
}

export interface SessionRecord extends SessionRights {
	readonly made: string;
	readonly views: readonly View[];
	/** Whoever began it gave it no name: it goes when nothing was changed. */
	readonly isUnnamed: boolean;
	/** Of the keeper that has it, or had it last. */
	readonly keeper: SessionKeeper | null;
}

export interface SessionKeeper {
	readonly pid: number;
	/** By which its namespaces are entered; null: it has none. */
	readonly namespaces: { readonly pid: number; readonly isUserOwn: boolean; readonly isNetworkOwn: boolean } | null;
	/** Without namespaces: where the views are, in their order. */
	readonly points: readonly string[];
}

/** One session of a state folder. */
export class Session {
	readonly name: string;
	readonly folder: string;

	constructor(root: string, name: string) {
		this.name = name;
		this.folder = join(root, FOLDER, name);
	}

	/** Null: there is none of that name. LayerError. */
	record(): SessionRecord | null {
		const path = join(this.folder, RECORD);
		let text: string;
		try {
			text = readFileSync(path, "utf8");
		} catch (error) {
			const { code, errno = 0 } = error as NodeJS.ErrnoException;
			if (code === "ENOENT") return null;
			throw new LayerError(`Cannot read ${path}: ${whyNot(errno, path)}.`);
		}
		const record = parse(text);
		if (record === null) throw new LayerError(`Cannot use ${path}: it is damaged, or of another holdfast.`);
		return record;
	}

	write(record: SessionRecord): void {
		makeFolder(join(this.folder, MEMBERS), "the folder of the session");
		writeDurably(join(this.folder, RECORD), Buffer.from(`${JSON.stringify({ format: FORMAT, session: record })}\n`));
	}

	/** Keeps others from beginning, leaving and removing it meanwhile. LayerError. */
	async lock(): Promise<{ close(): void }> {
		makeFolder(join(this.folder, ".."), "the folder of sessions");
		const path = join(this.folder, "..", `.${this.name}.lock`);
		for (;;) {
			const fd = openPath(path, O.rdwr | O.creat | O.nofollow, 0o600);
			if (fd < 0) throw new LayerError(`Cannot open ${path}: ${whyNot(fd, path)}.`);
			await locked(fd, path);
			// whoever had it may have removed the session, and the file with it
			if (isAt(fd, path)) return { close: () => close(fd) };
			close(fd);
		}
	}

	/** Whether a keeper has it. */
	isKept(): boolean {
		return isLocked(join(this.folder, KEEPER));
	}

	/** Resolves when no keeper has it any more. */
	async untilLeft(): Promise<void> {
		while (this.isKept()) await later();
	}

	/** For as long as this process lives. False: another keeper has it. */
	async keep(): Promise<boolean> {
		const fd = openPath(join(this.folder, KEEPER), O.rdwr | O.creat | O.nofollow, 0o600);
		// whoever looks whether it is kept has it for a moment
		for (let attempt = 0; fd >= 0 && attempt < KEEP_ATTEMPTS_MAX; attempt++) {
			if (tryLock(fd) >= 0) {
				truncateSync(join(this.folder, KEEPER));
				return true;
			}
			await later();
		}
		return false;
	}

	/** Of its keeper: what was in it has come to its end, and nothing was cut short. */
	noteEnd(): void {
		try {
			writeFileSync(join(this.folder, KEEPER), "ended\n");
		} catch {
			// on a full disk: it is said that something may be lost, which is not so
		}
	}

	/** Whether its last keeper was killed. It has none. */
	wasCutShort(): boolean {
		return (statSync(join(this.folder, KEEPER), { throwIfNoEntry: false })?.size ?? 0) === 0;
	}

	/** Counts this process as a member, until that is closed or this process ends. */
	enter(): { close(): void } {
		const path = join(this.folder, MEMBERS, `${process.pid}`);
		const fd = openPath(path, O.rdwr | O.creat | O.nofollow, 0o600);
		if (fd < 0) throw new LayerError(`Cannot open ${path}: ${whyNot(fd, path)}.`);
		tryLock(fd);
		return {
			close() {
				rmSync(path, { force: true });
				close(fd);
			},
		};
	}

	/** How many are in it. What killed ones have left goes. To be called with its lock. */
	members(): number {
		const folder = join(this.folder, MEMBERS);
		let count = 0;
		for (const name of namesIn(folder)) {
			if (isLocked(join(folder, name))) count++;
			else rmSync(join(folder, name), { force: true });
		}
		return count;
	}

	/** What it says of its sets; these are removed by themselves. To be called with its lock. */
	remove(): void {
		rmSync(this.folder, { recursive: true, force: true });
		try {
			unlinkSync(join(this.folder, "..", `.${this.name}.lock`));
		} catch {
			// it was never locked
		}
	}
}

/** By their names. */
export function allSessions(root: string): Session[] {
	return namesIn(join(root, FOLDER))
		.filter(isSetName)
		.sort()
		.map((name) => new Session(root, name));
}

function namesIn(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch (error) {
		const { code, errno = 0 } = error as NodeJS.ErrnoException;
		if (code === "ENOENT") return [];
		throw new LayerError(`Cannot read ${folder}: ${whyNot(errno, folder)}.`);
	}
}

function parse(text: string): SessionRecord | null {
	try {
		const { format, session } = JSON.parse(text) as { readonly format: number; readonly session: SessionRecord };
		const lists = [session.allow, session.hide, session.views];
		const isWhole =
			format === FORMAT && lists.every(Array.isArray) && session.views.every(({ path, set }) => path !== "" && isSetName(set));
		return isWhole ? session : null;
	} catch {
		return null;
	}
}

async function locked(fd: number, path: string): Promise<void> {
	for (;;) {
		const status = tryLock(fd);
		if (status >= 0) return;
		if (status !== -ERRNO.EWOULDBLOCK) throw new LayerError(`Cannot lock ${path}: ${whyNot(status, path)}.`);
		await later();
	}
}

function later(): Promise<void> {
	return new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
}

function isAt(fd: number, path: string): boolean {
	const now = statSync(path, { throwIfNoEntry: false });
	return now !== undefined && now.ino === fstatSync(fd).ino;
}

function isLocked(path: string): boolean {
	const fd = openPath(path, O.rdwr | O.nofollow);
	if (fd < 0) return false;
	const isFree = tryLock(fd) >= 0;
	close(fd);
	return !isFree;
}
