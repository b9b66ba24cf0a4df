// Opens the layers that a check looks at, without the engine.

import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Layer, LayerOpener, type OverlayXattrs, openDirectory, refuseOverlaps } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { ERRNO, whyNot } from "../../linux/errno.ts";
import { close, descriptorPath, O, openAt } from "../../linux/open.ts";
import { workOf } from "../opening/export-paths.ts";
import { applyForm, applyOverrides, learnForms, readForms, type WhiteoutFiles } from "../opening/layer-forms.ts";
import { MARKER } from "../opening/ownership.ts";
import { openSharedTree } from "../opening/shared-tree.ts";
import { isUpperLocked, type LockedUpper, lockUpper } from "../opening/upper-lock.ts";
import { otherWriter, refuseOthersWork } from "../opening/users-of-upper.ts";
import { RecordMap } from "../work/record-map.ts";
import { type Registry, RegistryError, readRegistry } from "../work/registry.ts";
import { refuseOddWork } from "../work/work-shape.ts";

export interface CheckOptions {
	/** From the topmost down; at least one. */
	readonly lowers: readonly string[];
	/** Layers below them that only hold data of metacopy files. */
	readonly dataLowers?: readonly string[];
	readonly upper: string;
	/** By default a sibling of upper. */
	readonly work?: string | undefined;
	/** Names of the overlay's own xattrs in this stack. */
	readonly xattr: OverlayXattrs;
	readonly isRepair: boolean;
	/** As of OpenOptions. */
	readonly whiteoutFiles?: WhiteoutFiles;
	/** Told now and then how far the check is. */
	readonly progress?: (stage: string, count: number) => void;
}

/** Whose the upper is: ours from the first serve to release (the marker stands), given back, or the kernel's that was never ours. */
export type UpperState = "of holdfast" | "released" | "of the kernel";

/** The layers of an overlay, opened as they lie: nothing of the engine, so that what it refuses can be looked at too. */
export interface CheckedLayers {
	readonly xattr: OverlayXattrs;
	readonly upper: Layer;
	/** From the topmost down. */
	readonly lowers: readonly Layer[];
	readonly dataLowers: readonly Layer[];
	/** Descriptors in work; negative where there is none. */
	readonly work: number;
	readonly temporaries: number;
	readonly index: number;
	/** `work/holdfast`. */
	readonly own: number;
	/** Xattrs of ours on upper objects that can have none. */
	readonly marks: RecordMap;
	readonly workPath: string;
	readonly state: UpperState;
	/** Entries of `work/work/incompat` that are not ours. */
	readonly incompatible: readonly string[];
	readonly registry: Registry | null;
	/** Why there is a registry that cannot be read. */
	readonly registryFailure: string | null;
	/** Somebody serves or mounts the upper at this moment: what is found may be gone the next. */
	readonly isLive: boolean;
	close(): void;
}

/** LayerError: it cannot even be looked at, or not repaired now. */
export function openLayersForCheck(options: CheckOptions): CheckedLayers {
	const opened: { close(): void }[] = [];
	try {
		return open(options, opened);
	} catch (error) {
		for (const resource of opened.reverse()) resource.close();
		throw error;
	}
}

function open(options: CheckOptions, opened: { close(): void }[]): CheckedLayers {
	const upperPath = resolve(options.upper);
	const workPath = workOf(upperPath, options.work);
	const opener = new LayerOpener(options.xattr);
	const keep = <T extends { close(): void }>(resource: T): T => {
		opened.push(resource);
		return resource;
	};
	const keepFd = (fd: number): number => {
		if (fd >= 0) opened.push({ close: () => close(fd) });
		return fd;
	};
	const lowers = options.lowers.map((path) => keep(opener.openLower(path)));
	const dataLowers = (options.dataLowers ?? []).map((path) => keep(opener.openLower(path)));
	for (const [path, role] of [
		[upperPath, "upper"],
		[workPath, "work folder"],
	] as const) {
		close(openDirectory(path, role));
	}
	if (options.isRepair) refuseOthersWork(upperPath, workPath);
	refuseOddWork(workPath);
	const tree = keep(openSharedTree(upperPath, workPath, { isReadOnly: !options.isRepair, isPrivateOnly: true }));
	const upper = keep(opener.openUpper(upperPath, tree.open(upperPath)));
	refuseOverlaps([upper, ...lowers, ...dataLowers]);
	const work = keepFd(tree.open(workPath));
	const folder = (name: string) => {
		const fd = keepFd(openAt(work, name, O.rdonly | O.directory | O.nofollow));
		if (fd < 0 && fd !== -ERRNO.ENOENT) throw new LayerError(`Cannot open ${join(workPath, name)}: ${whyNot(fd, join(workPath, name))}.`);
		return fd;
	};
	const ownPath = join(workPath, "holdfast");
	const isLive = lockForCheck({ path: upperPath, root: upper.root, folder: ownPath }, options.isRepair, keep);
	const own = folder("holdfast");
	const known = readForms(own < 0 ? ownPath : descriptorPath(own), lowers.length);
	const forms = learnForms(lowers, known, options.whiteoutFiles ?? "auto", (path, count) => options.progress?.(path, count));
	for (const [i, lower] of lowers.entries()) applyForm(lower, forms[i]);
	applyOverrides(lowers);
	const incompat = incompatible(folder("work/incompat"));
	const { registry, failure } = registryOf(own, ownPath);
	return {
		xattr: options.xattr,
		upper,
		lowers,
		dataLowers,
		work,
		temporaries: folder("work"),
		index: folder("index"),
		own,
		marks: keep(new RecordMap(own < 0 ? ownPath : descriptorPath(own), "marks")),
		workPath,
		state: incompat.includes(MARKER) ? "of holdfast" : registry !== null || failure !== null ? "released" : "of the kernel",
		incompatible: incompat.filter((name) => name !== MARKER),
		registry,
		registryFailure: failure,
		isLive,
		close() {
			for (const resource of opened.reverse()) resource.close();
		},
	};
}

/**
 * Whether somebody else writes to the upper at this moment. A repair keeps the lock that a server would take, and is refused where it cannot
 * have it; without one it is asked for and given back at once, so that a server may start meanwhile.
 */
export function lockForCheck(upper: LockedUpper, isRepair: boolean, keep: <T extends { close(): void }>(resource: T) => T): boolean {
	if (!isRepair) return isUpperLocked(upper) || otherWriter({ path: upper.path, fd: upper.root }) !== null;
	keep(lockUpper(upper, "holdfast check --repair", "repair")).keepFile();
	return false;
}

function incompatible(folder: number): string[] {
	return folder < 0 ? [] : readdirSync(descriptorPath(folder));
}

/** By way of the descriptor, where reading leaves no access time. */
function registryOf(own: number, path: string): { readonly registry: Registry | null; readonly failure: string | null } {
	if (own < 0) return { registry: null, failure: null };
	try {
		return { registry: readRegistry(descriptorPath(own)), failure: null };
	} catch (error) {
		if (!(error instanceof RegistryError)) throw error;
		return { registry: null, failure: error.message.replace(descriptorPath(own), path) };
	}
}
