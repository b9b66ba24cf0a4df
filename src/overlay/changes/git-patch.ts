// Changes of files as a patch that `git apply` takes.

import { createHash } from "node:crypto";
import { namesInPath } from "../../layer/path-search.ts";
import { literalOf } from "../../patch/git-binary.ts";
import { headerName, hunksOf, isBinary, quoteForGit } from "../../patch/git-text.ts";
import { FileType } from "../../vfs/operations.ts";
import type { FileChange, FileSide } from "./file-changes.ts";

/** A file that is larger is treated as one that is no text, and never held in memory. */
export const TEXT_BYTES_MAX = 32 * 1024 * 1024;

/** What a patch cannot say, and how much of it was met. */
export interface Unsaid {
	/** Devices, fifos and sockets. */
	specials: number;
	/** Names that git keeps for itself. */
	ofGit: number;
	/** No text, without `hasBinary`. */
	binaries: number;
}

export interface PatchOptions {
	/** Content that is no text is part of the patch. */
	readonly hasBinary: boolean;
	readonly unsaid: Unsaid;
}

/** What git takes for a folder of its own, on any system. */
const OF_GIT = /^(\.git|git~1)[ .]*$/i;

/** The part of the patch that is of one file; nothing where content, kind and execute permission are the same. */
export async function* patchOf({ old, now }: FileChange, options: PatchOptions): AsyncGenerator<Buffer> {
	const sides = [old, now].filter((side) => side !== null);
	if (sides.some(({ path }) => namesInPath(path).some((name) => OF_GIT.test(name.toString("latin1"))))) {
		options.unsaid.ofGit++;
		return;
	}
	const isSaid = (side: FileSide) => side.type === FileType.reg || side.type === FileType.lnk;
	if (!sides.every(isSaid)) options.unsaid.specials++;
	const [before, after] = [old !== null && isSaid(old) ? old : null, now !== null && isSaid(now) ? now : null];
	// git has no change from one kind to another
	if (before !== null && after !== null && before.type !== after.type) {
		yield* onePatch(before, null, options);
		yield* onePatch(null, after, options);
	} else if (before !== null || after !== null) yield* onePatch(before, after, options);
}

interface Read {
	readonly id: string;
	/** Null: it is not held in memory. */
	readonly content: Buffer | null;
}

const NOTHING: Read = { id: "0".repeat(40), content: Buffer.alloc(0) };

async function* onePatch(old: FileSide | null, now: FileSide | null, options: PatchOptions): AsyncGenerator<Buffer> {
	const [before, after] = [old === null ? NOTHING : await read(old), now === null ? NOTHING : await read(now)];
	const [oldPath, newPath] = [(old ?? now)?.path as Buffer, (now ?? old)?.path as Buffer];
	const hasMoved = !oldPath.equals(newPath);
	const [oldMode, newMode] = [old, now].map((side) => (side === null ? null : modeOf(side)));
	if (before.id === after.id && oldMode === newMode && !hasMoved) return;
	const head = [`diff --git ${quoted("a/", oldPath)} ${quoted("b/", newPath)}`];
	if (oldMode === null) head.push(`new file mode ${newMode}`);
	else if (newMode === null) head.push(`deleted file mode ${oldMode}`);
	else if (oldMode !== newMode) head.push(`old mode ${oldMode}`, `new mode ${newMode}`);
	if (hasMoved) {
		if (before.id === after.id) head.push("similarity index 100%");
		head.push(`rename from ${quoteForGit(oldPath)}`, `rename to ${quoteForGit(newPath)}`);
	}
	if (before.id !== after.id) head.push(`index ${before.id}..${after.id}${oldMode === newMode ? ` ${newMode}` : ""}`);
	yield Buffer.from(`${head.join("\n")}\n`);
	if (before.id !== after.id) yield* content(old, now, before, after, options);
}

async function* content(
	old: FileSide | null,
	now: FileSide | null,
	before: Read,
	after: Read,
	{ hasBinary, unsaid }: PatchOptions,
): AsyncGenerator<Buffer> {
	const [from, to] = [old === null ? "/dev/null" : headerName("a/", old.path), now === null ? "/dev/null" : headerName("b/", now.path)];
	if (before.content !== null && after.content !== null && !isBinary(before.content) && !isBinary(after.content)) {
		if (before.content.length + after.content.length === 0) return;
		yield Buffer.from(`--- ${from}\n+++ ${to}\n`);
		yield* hunksOf(before.content, after.content);
		return;
	}
	if (!hasBinary) {
		unsaid.binaries++;
		yield Buffer.from(`Binary files ${from.replace(/\t$/, "")} and ${to.replace(/\t$/, "")} differ\n`);
		return;
	}
	yield Buffer.from("GIT binary patch\n");
	// forward, and back for git apply --reverse
	for (const side of [now, old]) yield* literalOf(side?.size ?? 0, side === null ? nothing() : side.content());
}

async function* nothing(): AsyncGenerator<Buffer> {}

function quoted(prefix: string, path: Buffer): string {
	return quoteForGit(Buffer.concat([Buffer.from(prefix), path]));
}

const OWNERS_EXECUTE = 0o100;

/** git knows no other modes. */
function modeOf({ type, mode }: FileSide): string {
	if (type === FileType.lnk) return "120000";
	return (mode & OWNERS_EXECUTE) === 0 ? "100644" : "100755";
}

/** The content, and the name that git has for it. */
async function read(side: FileSide): Promise<Read> {
	const hash = createHash("sha1").update(`blob ${side.size}\0`);
	const pieces: Buffer[] = [];
	for await (const piece of side.content()) {
		hash.update(piece);
		if (side.size <= TEXT_BYTES_MAX) pieces.push(piece);
	}
	return { id: hash.digest("hex"), content: side.size <= TEXT_BYTES_MAX ? Buffer.concat(pieces) : null };
}
