// In which form each layer of an export says what it hides, and who owns what: found out once, and kept in the export's folder.

import { readFileSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { hasPrefix, isWhiteoutFile, OPAQUE_FILE, OPAQUE_NAMES, WHITEOUT_PREFIX } from "../../layer/hiding.ts";
import { type Layer, overlayXattrs, TRUSTED_XATTRS, USER_XATTRS } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { pathBelow } from "../../layer/path-search.ts";
import { KeptRights, OVERRIDE_XATTR, OVERRIDE_XATTRS } from "../../layer/rights.ts";
import { openToList } from "../../layer/walk-tree.ts";
import { realPathOf } from "../../linux/covered-directories.ts";
import { visitEntries } from "../../linux/directory.ts";
import { whyNot } from "../../linux/errno.ts";
import { close } from "../../linux/open.ts";
import { pathExists } from "../../linux/read-file.ts";
import { Stat, statAt } from "../../linux/stat.ts";
import { showName } from "../../vfs/names.ts";
import { FileType } from "../../vfs/operations.ts";
import { isFound, unlessFull } from "../../vfs/system-errors.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { isWhiteoutStat } from "../format/whiteout.ts";
import { writeDurably } from "../work/registry.ts";

/** What files named `.wh.NAME` in layers are: whiteouts, files like others, or, by default, what each layer tells. */
export type WhiteoutFiles = "auto" | "yes" | "no";

/** What must be known of a lower to read it. */
export interface LayerForm {
	/** Files named `.wh.NAME` are whiteouts. */
	readonly hasFiles: boolean;
	/** Names of attributes by which directories say that they are opaque, besides the export's own. */
	readonly opaques: readonly string[];
}

/** The forms of an export's layers, lowers from the topmost down. */
export interface LayerForms {
	readonly lowers: readonly LayerForm[];
	/** While it is being adopted. */
	readonly upper: { readonly hasFiles: boolean } | null;
}

const PLAIN: LayerForm = { hasFiles: false, opaques: [] };

/** In the export's folder. */
const FORMS_FILE = "forms";

/** What was found out before, of as many lowers; null: nothing, or it is not understood. */
export function readForms(folder: string, lowers: number): LayerForms | null {
	const path = join(folder, FORMS_FILE);
	if (!pathExists(path)) return null;
	try {
		const { lowers: forms, upper = null } = JSON.parse(readFileSync(path, "utf8")) as LayerForms;
		const known = new Set(OPAQUE_NAMES.map(({ opaque }) => opaque));
		const isForm = (form: LayerForm) =>
			typeof form.hasFiles === "boolean" && Array.isArray(form.opaques) && form.opaques.every((name) => known.has(name));
		const isWhole =
			Array.isArray(forms) && forms.length === lowers && forms.every(isForm) && typeof (upper?.hasFiles ?? false) === "boolean";
		return isWhole ? { lowers: forms, upper } : null;
	} catch (error) {
		if (error instanceof SyntaxError || error instanceof TypeError) return null;
		throw error;
	}
}

/** Where there is no room for them they are learned again. */
export function writeForms(folder: string, forms: LayerForms): void {
	const text = `${JSON.stringify(forms)}\n`;
	const path = join(folder, FORMS_FILE);
	const isPlain = forms.lowers.length === 1 && forms.upper === null && isDeepStrictEqual(forms.lowers[0], PLAIN);
	if (isPlain) rmSync(path, { force: true });
	// without it the next start looks again
	else if (!pathExists(path) || readFileSync(path, "utf8") !== text) unlessFull(() => writeDurably(path, Buffer.from(text)));
}

/** Before another image is in the place of a lower. */
export function forgetForms(folder: string): void {
	rmSync(join(folder, FORMS_FILE), { force: true });
}

/**
 * Looks through each lower that has others below it, unless that is known already: the lowest hides nothing. LayerError: it cannot be told, or
 * not be read by this process, what a lower hides.
 */
export function learnForms(
	lowers: readonly Layer[],
	known: LayerForms | null,
	files: WhiteoutFiles,
	progress: (layer: string, directories: number) => void,
): LayerForm[] {
	return lowers.map((lower, i) => {
		refuseOtherUpper(lower);
		const former = known?.lowers[i];
		if (former !== undefined) return files === "auto" ? former : { ...former, hasFiles: files === "yes" };
		if (i < lowers.length - 1) return examine(lower, files, (directories) => progress(lower.path, directories));
		return { ...PLAIN, hasFiles: files === "yes" || (files === "auto" && isOfStorage(lower.path)) };
	});
}

/** Has a lower read in its form. */
export function applyForm(lower: Layer, form: LayerForm): void {
	const { hiding } = lower;
	const others = OPAQUE_NAMES.filter(
		({ opaque }) => form.opaques.includes(opaque) && !hiding.opaques.some((name) => name.opaque === opaque),
	);
	if (form.hasFiles || others.length > 0) lower.hiding = { opaques: [...hiding.opaques, ...others], hasFiles: form.hasFiles };
}

/**
 * By the attribute of its root that says so, as fuse-overlayfs takes it, owners and modes of a lower stand in xattrs. A file that is found by its
 * handle may be of any lower on its file system, so they count in all of these.
 */
export function applyOverrides(lowers: readonly Layer[]): void {
	const names = new Map<Layer["fileSystem"], Set<string>>();
	for (const { root, fileSystem } of lowers) {
		const xattr = OVERRIDE_XATTRS.find((name) => xattrOrNone(root, name, "Cannot read the marks of a lower") !== null);
		if (xattr !== undefined) names.set(fileSystem, (names.get(fileSystem) ?? new Set()).add(xattr));
	}
	for (const lower of lowers) {
		const xattrs = names.get(lower.fileSystem);
		if (xattrs === undefined) continue;
		const { rights } = lower;
		const isKept = rights instanceof KeptRights;
		const asRoot = !isKept || rights.asRoot;
		lower.rights = new KeptRights(
			asRoot,
			process.geteuid?.() ?? 0,
			process.getegid?.() ?? 0,
			isKept ? [...xattrs, OVERRIDE_XATTR] : [...xattrs],
		);
	}
}

/** Of one that holdfast has written with attributes of the other kind, files may lie without their data, and directories elsewhere. */
function refuseOtherUpper(lower: Layer): void {
	const other = lower.xattr === USER_XATTRS ? TRUSTED_XATTRS : USER_XATTRS;
	if (!overlayXattrs(lower.root, other).includes("holdfast")) return;
	throw new LayerError(
		`Cannot use the lower ${lower.path}: holdfast has written it with attributes ${other.prefix}*, which mean nothing in this export. Serve it ` +
			`${other === USER_XATTRS ? "with --userxattr, or as the user who has written it" : "as root, without --userxattr"}.`,
	);
}

/** Whether a directory is a layer in the store of containers/storage (podman, buildah) or docker. */
export function isOfStorage(path: string): boolean {
	const real = realPathOf(path);
	return basename(real) === "diff" && pathExists(join(dirname(real), "link"));
}

/** `.wh.NAME` names that nobody but AUFS and its heirs has. */
export function isProofOfFiles(name: Uint8Array): boolean {
	return OPAQUE_BYTES.equals(name);
}

const OPAQUE_BYTES = Buffer.from(OPAQUE_FILE);

/** The refusal where nothing tells what files named `.wh.NAME` are. `what`: the layer. */
export function refuseUnclear(what: string, path: string, name: Uint8Array): LayerError {
	const hidden = showName(Buffer.from(name.subarray(WHITEOUT_PREFIX.length)));
	return new LayerError(
		`Cannot tell what the file ${path} of ${what} is: a whiteout, as unpacked images and fuse-overlayfs have them, which hides ${hidden}, or a ` +
			"file like any other. Say --whiteout-files yes, or --whiteout-files no.",
	);
}

/** The refusal of what root's overlay has made; an ordinary user sees only a part of it. */
export function refuseRootsMarks(what: string, path: string): LayerError {
	return new LayerError(
		`Cannot use ${what} as an ordinary user: root has made the whiteout ${path}, and which directories hide what is below them only root ` +
			"may see (trusted.overlay.opaque). Serve it as root.",
	);
}

function examine(lower: Layer, files: WhiteoutFiles, progress: (directories: number) => void): LayerForm {
	const own = new Set(lower.hiding.opaques.map(({ opaque }) => opaque));
	const others = OPAQUE_NAMES.filter(({ opaque }) => !own.has(opaque)).map(({ opaque }) => opaque);
	const otherRedirect = (lower.xattr === USER_XATTRS ? TRUSTED_XATTRS : USER_XATTRS).redirect;
	const opaques = new Set<string>();
	let unclear: { readonly path: Buffer; readonly name: Buffer } | null = null;
	let isProven = isOfStorage(lower.path);
	const isOrdinary = process.geteuid?.() !== 0;
	const stat = new Stat();
	let ofRoot: Buffer | null = null;
	const pending: Buffer[] = [Buffer.alloc(0)];
	let directories = 0;
	for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
		progress(++directories);
		const here = path;
		const fd = openToList(lower, path);
		if (fd === null) continue;
		const unread = `Cannot read the marks of ${join(lower.path, showPath(here))}`;
		for (const name of others) if (!opaques.has(name) && xattrOrNone(fd, name, unread) !== null) opaques.add(name);
		if (xattrOrNone(fd, otherRedirect, unread) !== null) {
			close(fd);
			throw new LayerError(
				`Cannot use the lower ${lower.path}: its directory ${showPath(here)} carries ${otherRedirect}, which means nothing in this export. ` +
					`Serve it ${otherRedirect === USER_XATTRS.redirect ? "with --userxattr" : "without --userxattr"}.`,
			);
		}
		const status = visitEntries(fd, (entry, listed) => {
			const isNamed = hasPrefix(entry, WHITEOUT_PREFIX);
			if (listed !== 0 && listed !== FileType.dir && listed !== FileType.chr && !isNamed) return undefined;
			const isAsked = listed === 0 || listed === FileType.chr;
			const type = !isAsked ? listed : isFound(statAt(fd, entry, stat), unread) ? stat.type : 0;
			if (isNamed && isWhiteoutFile(entry, type)) {
				if (isProofOfFiles(entry)) isProven = true;
				else unclear ??= { path: here, name: Buffer.from(entry) };
			}
			if (type === FileType.dir) pending.push(pathBelow(here, Buffer.from(entry)));
			if (type === FileType.chr && isOrdinary && isWhiteoutStat(stat) && stat.uid === 0) ofRoot ??= pathBelow(here, Buffer.from(entry));
			return undefined;
		});
		close(fd);
		if (ofRoot !== null) throw refuseRootsMarks(`the lower ${lower.path}`, showPath(ofRoot));
		if (status < 0)
			throw new LayerError(`Cannot read ${join(lower.path, showPath(here))}: ${whyNot(status, join(lower.path, here.toString()))}.`);
	}
	if (files !== "auto") return { hasFiles: files === "yes", opaques: [...opaques] };
	if (unclear !== null && !isProven) {
		const { path, name } = unclear as { readonly path: Buffer; readonly name: Buffer };
		throw refuseUnclear(`the lower ${lower.path}`, showPath(pathBelow(path, name)), name);
	}
	return { hasFiles: isProven, opaques: [...opaques] };
}

function showPath(path: Buffer): string {
	return `/${showName(path)}`;
}
