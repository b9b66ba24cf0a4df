// The layers of an export against its registry: homes, inode spaces, and whether they have changed.

import { randomBytes } from "node:crypto";
import { type Layer, USER_XATTRS } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import { mountId } from "../../linux/stat.ts";
import type { Home } from "../engine/home.ts";
import { type HomeRecord, type LayerRecord, newSecrets, type Registry, type SpaceRecord } from "../work/registry.ts";
import type { ExportPaths } from "./export-paths.ts";
import { rootName, treeName } from "./layer-names.ts";

/** The layers of an export, as they were opened. */
export interface Stack {
	readonly upper: Layer | null;
	/** From the topmost down. */
	readonly lowers: readonly Layer[];
	readonly dataLowers: readonly Layer[];
}

export function newRegistry({ upper, lowers, dataLowers }: Stack): Registry {
	if (lowers[0].handles.isPortable) return newPortableRegistry({ upper, lowers, dataLowers });
	const homes: HomeRecord[] = [];
	const spaces: SpaceRecord[] = [];
	const records: LayerRecord[] = [];
	for (const lower of lowers) {
		const uuid = lower.fileSystem.uuid.toString("hex");
		let home = homes.find((other) => other.uuid === uuid)?.number;
		if (home === undefined) {
			home = homes.length + 1;
			homes.push({ number: home, kind: "file system", uuid });
		}
		const subvolume = subvolumeOf(lower);
		if (!spaces.some((space) => space.home === home && space.subvolume === subvolume)) {
			spaces.push({ number: spaces.length + 1, home, subvolume });
		}
		records.push({ home, root: rootName(lower.rootHandle) });
	}
	let upperRecord: LayerRecord | null = null;
	if (upper !== null) {
		const home = homes.length + 1;
		homes.push({ number: home, kind: "upper generation", uuid: randomBytes(16).toString("hex") });
		spaces.push({ number: spaces.length + 1, home, subvolume: "" });
		upperRecord = { home, root: rootName(upper.rootHandle) };
	}
	const isUser = lowers[0].xattr === USER_XATTRS;
	return {
		...newSecrets(),
		homes,
		spaces,
		lowers: records,
		upper: upperRecord,
		...(dataLowers.length > 0 ? { dataLowers: dataLowers.map((layer) => ({ home: 0, root: dataName(layer) })) } : {}),
		...(isUser ? { userXattrs: true } : {}),
	};
}

/** Each layer is a home, with an id that goes where it is copied to; file ids are hashes, so there are no inode spaces. */
function newPortableRegistry({ upper, lowers, dataLowers }: Stack): Registry {
	const homes: HomeRecord[] = [];
	const newHome = (kind: HomeRecord["kind"]) => {
		homes.push({ number: homes.length + 1, kind, uuid: randomBytes(16).toString("hex") });
		return homes.length;
	};
	return {
		...newSecrets(),
		homes,
		spaces: [],
		lowers: lowers.map((lower) => ({ home: newHome("layer"), root: treeName(lower) })),
		upper: upper === null ? null : { home: newHome("upper generation"), root: rootName(upper.rootHandle) },
		...(dataLowers.length > 0 ? { dataLowers: dataLowers.map((layer) => ({ home: newHome("layer"), root: treeName(layer) })) } : {}),
		...(lowers[0].xattr === USER_XATTRS ? { userXattrs: true } : {}),
		handles: "portable",
	};
}

/** By what the registry knows a layer's root. */
function nameOfRoot(layer: Layer): string {
	return layer.handles.isPortable && !layer.isUpper ? treeName(layer) : rootName(layer.rootHandle);
}

/** Each subvolume of a btrfs counts its inodes for itself; its id stands in every handle of it (objectid, root, generation). */
function subvolumeOf(layer: Layer): string {
	return layer.fileSystem.name === "btrfs" ? layer.rootHandle.bytes.subarray(8, 16).toString("hex") : "";
}

/** A layer without a home: no object is born there. */
function dataName(layer: Layer): string {
	if (layer.handles.isPortable) return treeName(layer);
	return `${layer.fileSystem.uuid.toString("hex")}:${rootName(layer.rootHandle)}`;
}

/** The registry says which directories the layers are; other ones are not this export. */
export function checkStack(registry: Registry, { upper, lowers, dataLowers }: Stack, paths: Pick<ExportPaths, "folder">): void {
	const uuids = new Map(registry.homes.map((home) => [home.number, home.uuid]));
	const same = (layer: Layer, record: LayerRecord | undefined) =>
		record !== undefined &&
		record.root === nameOfRoot(layer) &&
		(layer.isUpper || layer.handles.isPortable || uuids.get(record.home) === layer.fileSystem.uuid.toString("hex"));
	if ((registry.userXattrs ?? false) !== (lowers[0].xattr === USER_XATTRS)) {
		throw new LayerError(
			`Cannot serve these layers ${registry.userXattrs ? "without" : "with"} --userxattr: ${paths.folder} was made ${registry.userXattrs ? "with" : "without"} it, ` +
				"and the marks of the one are not seen by the other.",
		);
	}
	if (upper !== null && !same(upper, registry.upper ?? undefined)) {
		throw new LayerError(
			`Cannot serve the upper ${upper.path}: ${paths.folder} was made for another directory (perhaps a copy). ` +
				"Handles would name other files. Serve the original, or run holdfast rebind on that and copy it again. If it is gone no handle goes on, " +
				"but the changes do: copy the upper alone (cp -a), without its work folder, and run holdfast adopt with that.",
		);
	}
	const data = registry.dataLowers ?? [];
	if (data.length !== dataLowers.length || dataLowers.some((layer, i) => dataName(layer) !== data[i].root)) {
		throw new LayerError("Cannot serve these layers: the data layers are others than before. Give the same ones in the same order.");
	}
	const changed = changedLowers(lowers, registry.lowers, same);
	if (changed !== null) {
		throw new LayerError(
			`Cannot serve these lowers on this upper: ${changed}. Give the same lowers in the same order, ` +
				`${lowers[0].handles.isPortable ? "put others in their place with holdfast rebase, " : ""}or start with a fresh upper and work.`,
		);
	}
}

/** Which lower is another one, is missing, or has changed its place; null when all are as they were. */
function changedLowers(
	lowers: readonly Layer[],
	records: readonly LayerRecord[],
	same: (layer: Layer, record: LayerRecord | undefined) => boolean,
): string | null {
	// two may be told apart by their places alone
	const former = lowers.map((lower, i) => (same(lower, records[i]) ? i : records.findIndex((record) => same(lower, record))));
	const before = records.length === 1 ? "there was 1" : `there were ${records.length}`;
	const strangers = lowers.filter((_, i) => former[i] < 0).map(({ path }) => path);
	if (strangers.length > 0) {
		const count = lowers.length === records.length ? "" : `, and ${before} of them`;
		const are = strangers.length === 1 ? "is not the lower that was" : "are not the lowers that were";
		return `${strangers.join(" and ")} ${are} there before (replaced, or restored from a copy?)${count}`;
	}
	const missing = records.map((_, i) => i).filter((i) => !former.includes(i));
	if (missing.length > 0) return `${before} of them, counted from the top, and number ${missing.map((i) => i + 1).join(", ")} is missing`;
	const moved = lowers.findIndex((_, i) => former[i] !== i);
	return moved < 0 ? null : `${lowers[moved].path} was number ${former[moved] + 1} from the top before`;
}

export function assignNumbers(registry: Registry, { upper, lowers, dataLowers }: Stack): void {
	const assign = (layer: Layer, record: LayerRecord) => {
		layer.home = record.home;
		if (layer.handles.isPortable && layer.isUpper && registry.rebound !== undefined) {
			layer.fileSystem.uuid = Buffer.from(registry.rebound, "hex");
		} else if (layer.handles.isPortable)
			layer.fileSystem.uuid = Buffer.from(registry.homes.find(({ number }) => number === record.home)?.uuid ?? "", "hex");
		layer.isAdopted = record.adopted ?? false;
		const subvolume = layer.isUpper ? "" : subvolumeOf(layer);
		// portable ids get hashed file ids; ids kept by a rebind carry their old space and inode number (Birth)
		layer.space = layer.handles.isPortable
			? 0
			: (registry.spaces.find((space) => space.home === record.home && space.subvolume === subvolume)?.number ?? 0);
	};
	for (const [i, lower] of lowers.entries()) assign(lower, registry.lowers[i]);
	if (upper !== null && registry.upper !== null) assign(upper, registry.upper);
	for (const [i, layer] of dataLowers.entries()) if (layer.handles.isPortable) assign(layer, (registry.dataLowers ?? [])[i]);
}

export function homesOf(registry: Registry, layers: readonly Layer[]): Map<number, Home> {
	const homes = new Map<number, Home>();
	for (const { number, kind, uuid } of registry.homes) {
		const inStack = layers.filter((layer) => layer.home === number);
		if (inStack.length === 0) continue;
		const mounts = new Map(inStack.map((layer) => [mountId(layer.outside), layer.outside]));
		homes.set(number, {
			number,
			uuid: Buffer.from(uuid, "hex"),
			layers: inStack,
			isUpper: kind === "upper generation",
			mounts: [...mounts.values()],
		});
	}
	return homes;
}
