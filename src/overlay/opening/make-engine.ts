// The third phase of opening an export: the engine over its layers, with empty caches and the root in memory.

import { RecentMap } from "../../collections/recent-map.ts";
import { sipKey } from "../../handle/sip-hash.ts";
import { HandleSigner, PROVIDER_KERNEL, PROVIDER_PORTABLE, ROOT_HOME } from "../../handle/wire-handle.ts";
import type { Layer } from "../../layer/layer.ts";
import { LayerError } from "../../layer/layer-error.ts";
import type { PortableUpper } from "../../layer/portable-upper.ts";
import { Real } from "../../layer/real.ts";
import { ERRNO, whyNot } from "../../linux/errno.ts";
import { takeAbstractName } from "../../linux/unix-name.ts";
import { FileType } from "../../vfs/operations.ts";
import { DataFiles } from "../data/data-files.ts";
import { ChangeAttribute } from "../engine/change-attribute.ts";
import { Climbs } from "../engine/climbs.ts";
import { type Engine, type Memory, ROOT_KEY } from "../engine/engine.ts";
import { WALKS_MAX } from "../engine/path-walk.ts";
import { Turns } from "../engine/turns.ts";
import { readRootMarks } from "../lookup/stack-search.ts";
import { Node } from "../nodes/node.ts";
import { NodeCache } from "../nodes/node-cache.ts";
import { Offload } from "../threads/offload.ts";
import { HeldObjects } from "../work/held-objects.ts";
import { RecordMap } from "../work/record-map.ts";
import type { Registry } from "../work/registry.ts";
import type { Attempt } from "./attempt.ts";
import type { Claim } from "./claim-export.ts";
import type { OpenedLayers } from "./open-layers.ts";
import { openWritable } from "./open-writable.ts";
import { homesOf } from "./stack.ts";

/** LayerError: the same export is served by another process of this machine. */
export function makeEngine({ options, handles, budget, keep }: Attempt, layers: OpenedLayers, { registry }: Claim): Engine {
	const { paths, upper, tree, stack } = layers;
	const { descriptors } = budget;
	const writable = upper === null || tree === null ? null : openWritable(upper, paths, tree, keep);
	if (writable !== null) writable.work.lock = layers.lock;
	if (upper !== null && writable?.ids != null && options.purpose !== "inspect") takeIdentity(upper, registry, writable.ids);
	if (writable !== null) writable.work.trash.isOpen = options.purpose === "serve";
	const nodes = new NodeCache(budget.nodes, descriptors);
	const memory: Memory = { clock: () => performance.now(), now: 0, changes: 0, doubts: 0 };
	const engine: Engine = {
		layers: stack,
		xattr: stack[0].xattr,
		writable,
		signer: new HandleSigner(
			registry.exportId,
			new Map(registry.keys.map((key) => [key.id, sipKey(Buffer.from(key.secret, "hex"))])),
			registry.signingKey,
			handles.kind === "portable" && registry.rebound === undefined ? PROVIDER_PORTABLE : PROVIDER_KERNEL,
		),
		cookieKey: sipKey(Buffer.from(registry.cookieSecret, "hex")),
		homes: homesOf(registry, stack),
		descriptors,
		held: new HeldObjects(writable?.work.orphans ?? -1),
		nodes,
		offload: new Offload(upper === null ? undefined : budget.upperThreads(upper.fileSystem.device)),
		freeing: new Offload(upper === null ? undefined : budget.freeingThreads(upper.fileSystem.device)),
		cuts: { running: new Set(), outcomes: new WeakMap() },
		redirects: keep(new RecordMap(paths.folder, "redirects")),
		dataFiles: keep(new DataFiles(paths.folder, layers.dataLowers)),
		partials: null,
		changeKey: null,
		memory,
		turns: new Turns(nodes),
		climbs: new Climbs(() => memory.clock()),
		walks: new RecentMap(WALKS_MAX),
		changeAttribute: new ChangeAttribute(rebasesOf(registry), descriptors),
		patience: null,
	};
	const layersOfOurs = new Set([...stack, ...layers.dataLowers]);
	keep({ close: () => leaveBudget(engine, layersOfOurs) });
	addRoot(engine);
	return engine;
}

/** What an export that is closed, or could not be opened, has of what it shares with others. */
function leaveBudget({ nodes, descriptors, offload, freeing }: Engine, layers: ReadonlySet<Layer>): void {
	nodes.close();
	descriptors.dropLayers(layers);
	void offload.close();
	void freeing.close();
}

/** One server for each identity: a copy of an upper that is served beside its original would give the same handles to other files. */
function takeIdentity(upper: Layer, registry: Registry, ids: PortableUpper): void {
	const fd = takeAbstractName(`holdfast-${registry.uuid}`);
	if (fd >= 0) {
		ids.keep(fd);
		return;
	}
	if (fd !== -ERRNO.EADDRINUSE) throw new LayerError(`Cannot make sure that ${upper.path} is served once: ${whyNot(fd)}.`);
	throw new LayerError(
		`Cannot serve the upper ${upper.path}: another process on this machine serves the same export, so one of the two is a copy of the other. ` +
			"Stop that one first, or give this one an identity of its own with holdfast fork.",
	);
}

function rebasesOf({ lowers }: Registry): number {
	return lowers.reduce((sum, { rebases = 0 }) => sum + rebases, 0);
}

const ROOT_FILEID = 1;

/** The root has no inode in its handle and no number of its own, so that neither can ever change. */
function addRoot(engine: Engine): void {
	const reals = engine.layers.map((layer) => {
		const root = new Real(layer, layer.rootHandle, layer.rootStat.inoHi, layer.rootStat.inoLo, false);
		readRootMarks(root);
		return root;
	});
	const id = { type: 0, bytes: Buffer.alloc(0) };
	engine.nodes.add(
		new Node({
			type: FileType.dir,
			handle: engine.signer.encode(ROOT_HOME, 0, id.bytes),
			key: ROOT_KEY,
			home: ROOT_HOME,
			id,
			fileidHi: 0,
			fileidLo: ROOT_FILEID,
			reals,
		}),
	);
}
