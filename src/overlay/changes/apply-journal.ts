// What work and staging folder say of an apply that is under way, so that the same command goes on with it.

import { createHash, randomBytes } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { LayerError } from "../../layer/layer-error.ts";
import { openInTree } from "../../layer/path-search.ts";
import { readInto, syncFile, writeFrom } from "../../linux/data.ts";
import { whyNot } from "../../linux/errno.ts";
import { allocate } from "../../linux/memory.ts";
import { makeFile } from "../../linux/names.ts";
import { close, O } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { APPLY_TO_LOWER } from "../opening/export-folder.ts";
import { flushFolder, writeDurably } from "../work/registry.ts";
import type { ApplyPlan } from "./apply-steps.ts";
import type { Target } from "./target.ts";

const FORMAT = 1;
const PLAN_FILE = "plan";
export const STAGING_PREFIX = ".holdfast-apply-";

/** "preparing": nothing of the target has changed; "begun": the plan is being carried out; "done": only what it leaves is to be removed. */
export type ApplyState = "preparing" | "begun" | "done";

/** One for each target of an upper, in `work/holdfast`. */
export interface ApplyRecord {
	readonly state: ApplyState;
	/** For people. */
	readonly target: string;
	/** The name of the staging folder in the root of the target. */
	readonly staging: string;
	/** Of the plan; empty while it is being prepared. */
	readonly digest: string;
	/** Where what was replaced and removed is kept; null: nowhere. */
	readonly undo: string | null;
	/** The xattr of the upper that says where its directories were in the target, which is its lower; null: it is not. */
	readonly redirect: string | null;
	/** When it was begun, for people. */
	readonly since: string;
}

export class ApplyJournal {
	readonly #path: string;
	readonly #folder: string;

	/** `folder`: `work/holdfast`. */
	constructor(folder: string, target: Target, isInPlace: boolean) {
		const stat = new Stat();
		fstat(target.root, stat);
		const name = createHash("sha256").update(`${stat.devMajor}:${stat.devMinor}:${stat.inoHi}:${stat.inoLo}`).digest("hex").slice(0, 16);
		this.#folder = folder;
		this.#path = join(folder, isInPlace ? APPLY_TO_LOWER : `apply-${name}`);
	}

	/** Null: none is under way. LayerError: it cannot be read. */
	read(): ApplyRecord | null {
		let text: string;
		try {
			text = readFileSync(this.#path, "utf8");
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
			throw new LayerError(`Cannot read ${this.#path}: ${whyNot((error as NodeJS.ErrnoException).errno ?? 0)}.`);
		}
		const record = parsed(text);
		if (record === null) {
			throw new LayerError(
				`Cannot go on with the apply that ${this.#path} tells of: the file is damaged. What it was to change in its target may be half done; ` +
					`the folder ${STAGING_PREFIX}* in there has what is left. Move the file away to begin anew.`,
			);
		}
		return record;
	}

	write(record: ApplyRecord): void {
		writeDurably(this.#path, Buffer.from(`${JSON.stringify({ format: FORMAT, digest: digestOf(record), record })}\n`));
	}

	/** The apply has ended. */
	remove(): void {
		rmSync(this.#path, { force: true });
		flushFolder(this.#folder);
	}
}

export function newStagingName(): string {
	return `${STAGING_PREFIX}${randomBytes(6).toString("hex")}`;
}

function digestOf(value: object): string {
	return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

function parsed(text: string): ApplyRecord | null {
	try {
		const { format, digest, record } = JSON.parse(text);
		const isName = typeof record.staging === "string" && record.staging.startsWith(STAGING_PREFIX) && !record.staging.includes("/");
		return format === FORMAT && isName && digest === digestOf(record) ? record : null;
	} catch {
		return null;
	}
}

/** Puts a plan into the staging folder, on the disk; its digest. */
export function writePlan(staging: number, plan: ApplyPlan): string {
	const bytes = Buffer.from(JSON.stringify(plan));
	const fd = makeFile(staging, PLAN_FILE, 0o600);
	let status = fd;
	for (let at = 0; status >= 0 && at < bytes.length; at += status) status = writeFrom(fd, bytes.subarray(at), at);
	if (status >= 0) status = syncFile(fd);
	if (fd >= 0) close(fd);
	if (status < 0) throw new LayerError(`Cannot write the plan: ${whyNot(status)}.`);
	return createHash("sha256").update(bytes).digest("hex");
}

/** LayerError: it is not there, or is another one. */
export function readPlan(staging: number, digest: string): ApplyPlan {
	const fd = openInTree(staging, PLAN_FILE, O.rdonly | O.nofollow);
	const stat = new Stat();
	let status = fd < 0 ? fd : fstat(fd, stat);
	const memory = allocate(Math.max(1, stat.size));
	for (let at = 0; status >= 0 && at < stat.size; at += status) {
		status = readInto(fd, memory.address + at, stat.size - at, at);
		if (status === 0) break;
	}
	if (fd >= 0) close(fd);
	const bytes = memory.bytes.subarray(0, stat.size);
	if (status < 0 || createHash("sha256").update(bytes).digest("hex") !== digest)
		throw new LayerError(
			`Cannot go on: the plan in the staging folder ${status < 0 ? `cannot be read (${whyNot(status)})` : "is damaged"}.`,
		);
	return JSON.parse(bytes.toString());
}
