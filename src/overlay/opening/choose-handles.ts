// Decides between kernel and portable handles for an export.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { HandleKind } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { openNamedDirectory } from "../../linux/covered-directories.ts";
import { close, O } from "../../linux/open.ts";
import { type Registry, RegistryError, readRegistry } from "../work/registry.ts";
import { workOf } from "./export-paths.ts";
import { treeNameOf } from "./layer-names.ts";
import type { OpenOptions } from "./open-options.ts";
import { readOnlyFolder } from "./read-only-folder.ts";

/** Where the ids of an export come from, and why: half a sentence, or the sentence that says why not from the kernel. */
export interface ChosenHandles {
	readonly kind: HandleKind;
	readonly why: string;
}

/** What an export that exists keeps, or its user asks for; else "auto". LayerError where the two differ. */
export function chooseHandles(options: OpenOptions): {
	readonly kind: "auto" | HandleKind;
	readonly why: string;
	/** Of an export that exists, which keeps its kind. */
	readonly existing: Registry | null;
} {
	const asked = options.handles ?? "auto";
	const existing = existingRegistry(options);
	if (existing === null) return { kind: asked, why: "they were asked for", existing };
	const kept = existing.handles ?? "kernel";
	if (asked !== "auto" && asked !== kept) {
		throw new LayerError(
			`Cannot serve this export with ${asked} handles: it has ${kept} ones, which clients hold. Leave --handles out, or change its kind ` +
				"with holdfast rebind.",
		);
	}
	return { kind: kept, why: whyKept(existing), existing };
}

/** What was so at its first serve need not be so any more. */
function whyKept({ handles, handlesWhy, rebound }: Registry): string {
	if (rebound !== undefined && handlesWhy !== undefined) return handlesWhy;
	const hasReason = handles === "portable" && handlesWhy !== undefined;
	return `this export has had them since its first serve${hasReason ? `; the reason then: ${handlesWhy}` : ""}`;
}

/** Its own marks on files are of the kind that this process may see. */
export function withXattrs(options: OpenOptions, kind: HandleKind, existing: Registry | null): OpenOptions {
	if (kind === "kernel" || options.userXattrs) return options;
	const userXattrs = existing === null ? options.fakeRoot === true || !mayUseTrusted() : (existing.userXattrs ?? false);
	return { ...options, userXattrs };
}

function existingRegistry({ upper, work, lowers, stateFolder }: OpenOptions): Registry | null {
	const folder = upper === undefined ? portableFolder(lowers, stateFolder) : join(workOf(upper, work), "holdfast");
	if (folder === null) return null;
	try {
		return readRegistry(folder);
	} catch (error) {
		// whoever opens the layers says what is wrong with it
		if (error instanceof RegistryError) return null;
		throw error;
	}
}

/** Where a read-only export of these lowers with portable handles has its state, if it has any. */
function portableFolder(lowers: readonly string[], stateFolder: string): string | null {
	const trees: string[] = [];
	for (const path of lowers) {
		const fd = openNamedDirectory(path, O.rdonly | O.directory | O.noatime);
		// whoever opens it says what is wrong
		if (fd < 0) return null;
		trees.push(treeNameOf(fd, path));
		close(fd);
	}
	return readOnlyFolder(stateFolder, trees, lowers);
}

const CAP_SYS_ADMIN = 21;
const ALL_IDS = /^\s*0\s+0\s+4294967295\s*$/;

/** Whether this process sees trusted.* attributes: as the superuser of the first user namespace only (xattr(7)). */
export function mayUseTrusted(): boolean {
	try {
		const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
		const isFirst = ALL_IDS.test(readFileSync("/proc/self/uid_map", "latin1"));
		return isFirst && ((Number.parseInt(effective.slice(-8), 16) >>> CAP_SYS_ADMIN) & 1) === 1;
	} catch {
		return false;
	}
}
