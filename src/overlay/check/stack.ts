// Judges whether upper, work and lowers belong together.

import type { Layer, OverlayXattrs } from "../../layer/layer.ts";
import { recordIn } from "../../layer/origin-record.ts";
import { xattrOrNone } from "../../vfs/xattrs.ts";
import { encodeRecord } from "../format/identity.ts";
import { rootName } from "../opening/layer-names.ts";
import type { LayerRecord, Registry } from "../work/registry.ts";
import type { Check } from "./context.ts";
import type { CheckedLayers } from "./layers.ts";

const UNREAD = "Cannot read the marks of upper";

/** Whether the upper was made with these lowers: as our registry has them, or by the kernel's mark on upper's root. */
export function hasProvenLowers({ registry, registryFailure, upper, lowers, xattr }: CheckedLayers): boolean {
	if (registryFailure !== null) return false;
	if (registry !== null) return areLowersOf(registry, lowers) && isLayerOf(registry, upper, registry.upper ?? undefined);
	const origin = xattrOrNone(upper.root, xattr.origin, UNREAD);
	return origin !== null && recordIn(origin).equals(rootRecord(lowers[0], false));
}

function rootRecord(layer: Layer, isUpper: boolean): Buffer {
	return encodeRecord(layer.fileSystem.uuid, layer.rootHandle, isUpper);
}

function isLayerOf(registry: Registry, layer: Layer, record: LayerRecord | undefined): boolean {
	if (record === undefined || record.root !== rootName(layer.rootHandle)) return false;
	const home = registry.homes.find(({ number }) => number === record.home);
	return layer.isUpper || home?.uuid === layer.fileSystem.uuid.toString("hex");
}

function areLowersOf(registry: Registry, lowers: readonly Layer[]): boolean {
	return lowers.length === registry.lowers.length && lowers.every((lower, i) => isLayerOf(registry, lower, registry.lowers[i]));
}

/** Judges whether upper, work and lowers belong together. */
export function examineStack(check: Check): void {
	const { registry, registryFailure, upper, lowers, index, xattr } = check.layers;
	if (registryFailure !== null) check.error("registry-unreadable", "work/holdfast/registry", registryFailure);
	if (registry !== null) examineRegistry(check, registry, upper, lowers, xattr);
	const indexUpper = index < 0 ? null : xattrOrNone(index, xattr.upper, "Cannot read the mark of the index");
	if (indexUpper !== null && !isRecordOf(indexUpper, upper)) {
		const message =
			`The index belongs to another upper (its xattr ${xattr.upper}), or upper is a copy. Name the upper that it was made for; ` +
			"if this is the one, remove the xattr.";
		check.error("index-of-another-upper", "index", message);
	}
	const origin = xattrOrNone(upper.root, xattr.origin, UNREAD);
	if (origin !== null && origin.length > 0 && !isRecordOf(recordIn(origin), lowers[0])) {
		const message =
			`Upper was made over another first lower (the xattr ${xattr.origin} of its root), or that one is a copy. ` +
			"Name the lower that it was made over; if this is the one, remove the xattr.";
		check.error("upper-of-another-lower", "upper", message);
	}
}

/** The kernel compares what lies behind the header's flags. */
function isRecordOf(record: Buffer, layer: Layer): boolean {
	return record.equals(rootRecord(layer, false)) || record.equals(rootRecord(layer, true));
}

function examineRegistry(check: Check, registry: Registry, upper: Layer, lowers: readonly Layer[], xattr: OverlayXattrs): void {
	if (!areLowersOf(registry, lowers)) {
		const message =
			"The lowers are not the lowers that this upper was served with, in that order. Name them; over others nothing is repaired.";
		check.error("lowers-differ", "work/holdfast/registry", message);
	}
	const mark = xattrOrNone(upper.root, xattr.identity, UNREAD);
	if (isLayerOf(registry, upper, registry.upper ?? undefined) && mark !== null && mark.toString("hex") === registry.uuid) return;
	const message = "The work folder belongs to another upper, or upper is a copy of that one. Name the right --work, or the original.";
	check.error("upper-differs", "upper", message);
}
