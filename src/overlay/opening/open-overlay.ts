// Opens an export: layers, place, registry, engine, recovery and adoption, in this order.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { sipKey } from "../../handle/sip-hash.ts";
import { HandleSigner, PROVIDER_KERNEL, PROVIDER_PORTABLE, ROOT_HOME } from "../../handle/wire-handle.ts";
import { type Layer, LayerOpener, overlayXattrs, refuseOverlaps, TRUSTED_XATTRS, USER_XATTRS } from "../../layer/layer.ts";
import { LayerError, UnfitError } from "../../layer/layer-error.ts";
import { hasLinkNames, LinkNames, noteLinkNames } from "../../layer/link-names.ts";
import { PortableLower } from "../../layer/portable-lower.ts";
import { PortableUpper } from "../../layer/portable-upper.ts";
import { Real } from "../../layer/real.ts";
import { RebaseRows } from "../../layer/rebase-rows.ts";
import { Rebound } from "../../layer/rebound.ts";
import { ReboundRows } from "../../layer/rebound-rows.ts";
import { KeptRights } from "../../layer/rights.ts";
import { syncFileSystem } from "../../linux/data.ts";
import { ERRNO, errnoName } from "../../linux/errno.ts";
import { setUmask } from "../../linux/file-system.ts";
import { close } from "../../linux/open.ts";
import { takeAbstractName } from "../../linux/unix-name.ts";
import { type Credentials, FileType } from "../../vfs/operations.ts";
import { adoptLower, type LayerReport } from "../adopt/adopt-lower.ts";
import { adoptUpper, type UpperReport } from "../adopt/adopt-upper.ts";
import { giveIds } from "../adopt/give-ids.ts";
import { isMoved, notePlace, relink } from "../adopt/moved.ts";
import { DataFiles } from "../data/data-files.ts";
import { PARTIAL_LIMITS, Partials } from "../data/partials.ts";
import { type Engine, ROOT_KEY } from "../engine/engine.ts";
import { Journal } from "../journal/journal.ts";
import type { Writable } from "../journal/writable.ts";
import { readRootMarks } from "../lookup/stack-search.ts";
import { Node } from "../nodes/node.ts";
import { NodeCache } from "../nodes/node-cache.ts";
import { Durability } from "../operations/durability.ts";
import { Overlay } from "../operations/overlay.ts";
import { Offload } from "../threads/offload.ts";
import { searchElsewhere } from "../threads/path-searches.ts";
import { Patience } from "../threads/patience.ts";
import { IndexDirectory } from "../work/index-directory.ts";
import { LinkCounts } from "../work/link-counts.ts";
import { LongRedirects } from "../work/long-redirects.ts";
import { PartialRecords, runOf } from "../work/partial-record.ts";
import { RecordMap } from "../work/record-map.ts";
import { createRegistry, type Registry, readRegistry, writeRegistry } from "../work/registry.ts";
import { WorkFolder } from "../work/work-folder.ts";
import { refuseOddFolder, refuseOddWork } from "../work/work-shape.ts";
import { Budget, type BudgetLimits } from "./budget.ts";
import { type ChosenHandles, chooseHandles, mayUseTrusted, withXattrs } from "./choose-handles.ts";
import { linkNamesFolder, noteLowers, reboundFolder, refuseRebinding, rowsFolder, undoRebinding } from "./export-folder.ts";
import { isFirst, type OpenOptions } from "./open-options.ts";
import type { OpenedOverlay } from "./opened-overlay.ts";
import { type Adoption, claimUpper, endAdoption, lockUpper, takeUpper, writePid } from "./ownership.ts";
import { indexPath, type Place, readOnlyPlace, refuseNameless, upperPlace } from "./place.ts";
import { openSharedTree, type SharedTree } from "./shared-tree.ts";
import { assignNumbers, checkStack, homesOf, newRegistry, type Stack } from "./stack.ts";

export type { OpenOptions } from "./open-options.ts";

/** Opens layers, upper and registry in the order that keeps what is not ours. LayerError, RegistryError: it cannot be served as it is. */
export function openOverlay(options: OpenOptions): OpenedOverlay {
	if (options.lowers.length === 0) throw new LayerError("Name at least one lower directory to serve.");
	setUmask(0);
	const budget = options.budget ?? new Budget({ ...options, ...listingBytes(options) });
	const { kind, why, existing } = chooseHandles(options);
	if (kind !== "auto") return openKind(options, { kind, why }, existing, budget);
	try {
		return openAs(options, { kind: "kernel", why: "the layers' file systems and this process allow them" }, budget);
	} catch (error) {
		if (!(error instanceof UnfitError)) throw error;
		return openAs(withXattrs(options, "portable", existing), { kind: "portable", why: error.problem }, budget);
	}
}

function listingBytes({ listingLimits }: OpenOptions): BudgetLimits {
	return listingLimits === undefined ? {} : { listingBytesMax: listingLimits.cacheBytes };
}

function openKind(options: OpenOptions, handles: ChosenHandles, existing: Registry | null, budget: Budget): OpenedOverlay {
	try {
		return openAs(withXattrs(options, handles.kind, existing), handles, budget);
	} catch (error) {
		if (!(error instanceof UnfitError) || existing === null) throw error;
		throw new LayerError(
			`${error.problem}. This export has kernel handles: run holdfast as root, or make them portable, as root, with holdfast rebind.`,
		);
	}
}

function openAs(options: OpenOptions, handles: ChosenHandles, budget: Budget): OpenedOverlay {
	const opened: { close(): void }[] = [];
	const made: { close(): void }[] = [];
	try {
		return { ...open(options, handles, budget, opened, made), handles };
	} catch (error) {
		for (const resource of [...made, ...opened].reverse()) resource.close();
		throw error;
	}
}

type Keep = <T extends { close(): void }>(resource: T) => T;

function open(
	options: OpenOptions,
	{ kind, why }: ChosenHandles,
	budget: Budget,
	opened: { close(): void }[],
	made: { close(): void }[],
): Omit<OpenedOverlay, "handles"> {
	const keep: Keep = (resource) => {
		opened.push(resource);
		return resource;
	};
	keep(budget.openLayers(options.lowers.length + (options.dataLowers?.length ?? 0) + (options.upper === undefined ? 0 : 1)));
	const isKeeping = kind === "portable" && (options.fakeRoot || !mayUseTrusted());
	const opener = new LayerOpener(options.userXattrs ? USER_XATTRS : TRUSTED_XATTRS, kind);
	const lowers = options.lowers.map((path) => keep(opener.openLower(path)));
	const dataLowers = (options.dataLowers ?? []).map((path) => keep(opener.openLower(path)));
	refuseOverlaps([...lowers, ...dataLowers]);
	const place = options.upper === undefined ? readOnlyPlace(options, lowers) : upperPlace(options, options.upper, lowers, made);
	if (place.work === null) refuseOddFolder(place.folder, place.folder);
	else refuseOddWork(place.work);
	const tree =
		place.upper === null || place.work === null
			? null
			: keep(openSharedTree(place.upper, place.work, { isReadOnly: false, isPrivateOnly: kind === "kernel" }));
	const upper = tree === null || place.upper === null ? null : keep(opener.openUpper(place.upper, tree.open(place.upper)));
	const layers = upper === null ? lowers : [upper, ...lowers];
	if (isKeeping && upper !== null) refuseOthersUpper(upper);
	if (isKeeping) for (const layer of [...layers, ...dataLowers]) layer.rights = keptRights(options.fakeRoot ?? false);
	if (upper !== null) refuseOverlaps([...layers, ...dataLowers]);
	if (kind === "kernel") refuseNameless([...layers, ...dataLowers], place.folder);
	if (upper !== null && options.purpose !== "inspect") lockUpper(upper, place.folder);
	const existing = readRegistry(place.folder);
	if (options.purpose !== "rebind") refuseRebinding(place.folder);
	else if (place.work !== null) undoRebinding(place.work, place.folder);
	refuseFormerUppers(options, lowers, existing);
	const stack = { upper, lowers, dataLowers };
	const { registry, adoption } = openRegistry(options, place, stack, existing, why);
	assignNumbers(registry, stack);
	for (const [i, lower] of lowers.entries()) lower.mayHoldMetacopies = i < lowers.length - 1 || dataLowers.length > 0;
	if (registry.rebound !== undefined) openRebound(place, lowers, keep);
	if (kind === "portable") openPortableLowers(options, place, [...lowers, ...dataLowers], registry, existing !== null, keep);
	const { descriptors } = budget;
	const writable = upper === null || tree === null ? null : openWritable(upper, place, tree, keep);
	if (upper !== null && writable?.ids != null && options.purpose !== "inspect") takeIdentity(upper, registry, writable.ids);
	const engine: Engine = {
		layers,
		xattr: layers[0].xattr,
		writable,
		signer: new HandleSigner(
			registry.exportId,
			new Map(registry.keys.map((key) => [key.id, sipKey(Buffer.from(key.secret, "hex"))])),
			registry.signingKey,
			kind === "portable" && registry.rebound === undefined ? PROVIDER_PORTABLE : PROVIDER_KERNEL,
		),
		cookieKey: sipKey(Buffer.from(registry.cookieSecret, "hex")),
		homes: homesOf(registry, layers),
		descriptors,
		nodes: new NodeCache(budget.nodes, descriptors),
		offload: new Offload(budget.upperThreads(layers[0].fileSystem.device)),
		redirects: keep(new RecordMap(place.folder, "redirects")),
		dataFiles: keep(new DataFiles(place.folder, dataLowers)),
		partials: null,
		changeKey: null,
		memory: { clock: () => performance.now(), now: 0, changes: 0, upperEntry: "none", doubts: 0 },
		patience: null,
	};
	const held = new Set([...layers, ...dataLowers]);
	keep({ close: () => leaveBudget(engine, held) });
	addRoot(engine);
	// while a layer is being adopted its redirects are followed
	if (options.purpose === "adopt") for (const lower of lowers) lower.isAdopted = true;
	if (writable !== null && options.purpose !== "inspect") {
		// what an interrupted change still needs of work must be taken out of it before the rest is thrown away
		writable.journal.recover(adoption === "none", options.isSync);
		if (options.isPatient === true && adoption === "none") writable.work.cleanInBackground();
		else writable.work.clean();
	}
	if (writable !== null && writable.ids !== null && kind === "portable") settlePlace(options, writable, lowers, place, existing !== null);
	const adopted = writable === null || adoption === "none" ? null : adopt(engine, writable, options, place, adoption);
	if (upper !== null) upper.mayHoldMetacopies = !engine.dataFiles.isEmpty;
	const durability = writable === null || options.purpose === "inspect" ? null : new Durability(engine, writable, options.isSync);
	if (writable !== null && durability !== null) openPartials(engine, durability, options, place, keep);
	const closeAll = () => {
		for (const resource of opened.reverse()) resource.close();
	};
	const overlay = new Overlay(engine, durability, closeAll, options.listingLimits, budget.listings);
	// only now: what is done before the first request waits for its answers
	if (options.isPatient === true && options.purpose === "serve") {
		const patience = new Patience(() => performance.now(), budget.lowerFileSystems);
		if (kind === "portable") searchElsewhere(patience, [...lowers, ...dataLowers]);
		engine.patience = patience;
		for (const layer of [...lowers, ...dataLowers]) layer.beforeOpen = (handle) => patience.guard(layer, handle, null, "inode");
	}
	const actsAs = !isKeeping || options.fakeRoot ? null : ownCredentials();
	const foreignLowers = !isKeeping ? [] : lowers.filter((lower) => lower.rootStat.uid !== process.geteuid?.()).map(({ path }) => path);
	return { overlay, registry, folder: place.folder, upper: place.upper, work: place.work, adopted, actsAs, foreignLowers };
}

/** What an export that is closed, or could not be opened, has of what it shares with others. */
function leaveBudget({ nodes, descriptors, offload }: Engine, layers: ReadonlySet<Layer>): void {
	nodes.close();
	descriptors.dropLayers(layers);
	void offload.close();
}

/** What was copied up in part goes on where it was. */
function openPartials(engine: Engine, durability: Durability, options: OpenOptions, place: Place, keep: Keep): void {
	const records = keep(new PartialRecords(place.folder, runOf(place.upper as string)));
	const fills = options.purpose === "serve" && (options.partialLimits?.fills ?? PARTIAL_LIMITS.fills);
	const limits = { ...PARTIAL_LIMITS, ...options.partialLimits, fills };
	const partials = new Partials(engine, records, (fd) => durability.content(fd), limits);
	engine.partials = partials;
	engine.nodes.onBury = (node) => {
		if (node.type === FileType.reg && node.isUpper && node.top.layer.mayHoldMetacopies && node.data !== node.top) partials.drop(node.top);
	};
	partials.load();
}

function adopt(engine: Engine, writable: Writable, options: OpenOptions, place: Place, adoption: Adoption): UpperReport {
	giveIds(writable, (directories) => options.onProgress?.(writable.layer.path, directories));
	const report = adoptUpper(engine, adoption === "again", (directories) => options.onProgress?.(writable.layer.path, directories));
	// what was looked at while the index was not complete
	engine.nodes.forgetAll();
	const status = syncFileSystem(writable.index.fd);
	if (status < 0) throw new LayerError(`Cannot flush the file system of ${writable.layer.path}: ${errnoName(status)}.`);
	endAdoption(place.folder);
	return report;
}

/** An opaque root says nothing, as in the kernel: there is nothing that it could hide which is not the root as well. */
const HARMLESS_MARKS = new Set(["opaque"]);

/** A lower whose root has overlay xattrs was an upper once: where its redirects lead from must be known before a handle is given. */
function refuseFormerUppers(options: OpenOptions, lowers: readonly Layer[], registry: Registry | null): void {
	if (options.purpose === "adopt") return;
	for (const [i, lower] of lowers.entries()) {
		const marks = overlayXattrs(lower.root, lower.xattr).filter((mark) => !HARMLESS_MARKS.has(mark));
		if (marks.length === 0 || registry?.lowers[i]?.adopted) continue;
		throw new LayerError(
			`Cannot serve the lower ${lower.path}: its root carries overlay attributes (${marks.join(", ")}), so it was an upper once. ` +
				"Run `holdfast adopt` with the same layers first: it notes where the redirects of such a lower lead from, and never writes to it.",
		);
	}
}

/**
 * Notes the redirects, and where the data of metacopy files is, of all lowers that once were uppers. The overlay must have been opened for
 * it, which has adopted the upper; it is of no other use then.
 */
export function adoptLowers(opened: OpenedOverlay, progress: (layer: string, directories: number) => void): LayerReport[] {
	const { engine } = opened.overlay;
	const lowers = engine.layers.filter((layer) => !layer.isUpper);
	const reports: LayerReport[] = [];
	const adopted = new Set<number>();
	for (const [i, layer] of lowers.entries()) {
		// what has nothing below it has nothing to take along or data from; of the others the root's attributes do not always tell
		if (!layer.mayHoldMetacopies && overlayXattrs(layer.root, layer.xattr).length === 0) continue;
		adopted.add(i);
		reports.push(adoptLower(engine, layer, (directories) => progress(layer.path, directories)));
	}
	const records = opened.registry.lowers.map((record, i) => (adopted.has(i) ? { ...record, adopted: true } : record));
	writeRegistry(opened.folder, { ...opened.registry, lowers: records });
	return reports;
}

function openRegistry(
	options: OpenOptions,
	place: Place,
	stack: Stack,
	existing: Registry | null,
	why: string,
): { readonly registry: Registry; readonly adoption: Adoption } {
	const { upper, lowers } = stack;
	if (existing !== null) checkStack(existing, stack, place);
	const adoption = upper === null ? "none" : claimUpper(options, place, upper, lowers, existing);
	if (existing === null && !isFirst(options)) {
		throw new LayerError(`Cannot find the registry of this export in ${place.folder}: these layers have not been served yet.`);
	}
	const registry = existing ?? { ...newRegistry(stack), handlesWhy: why };
	if (upper !== null && adoption !== "none") takeUpper(place, upper, lowers, registry, adoption);
	const written = existing ?? createRegistry(place.folder, registry);
	if (upper !== null && options.purpose !== "inspect") writePid(place.folder);
	return { registry: written, adoption };
}

/** Objects of the time when the export had kernel handles. Lowers of one home count as one file system, as they did then. */
function openRebound(place: Place, lowers: readonly Layer[], keep: Keep): void {
	const homes = new Map<number, Layer[]>();
	for (const lower of lowers) homes.set(lower.home, [...(homes.get(lower.home) ?? []), lower]);
	for (const [home, layers] of homes) {
		const path = reboundFolder(place.folder, home);
		if (!existsSync(path)) continue;
		const providers = layers.map(({ handles }) => handles as PortableLower);
		const rebound = new Rebound(keep(new ReboundRows(path)), providers);
		for (const layer of layers) layer.fileSystem = layers[0].fileSystem;
		for (const provider of providers) provider.rebound = rebound;
	}
}

/** What is known of lowers whose ids are paths: what was exchanged under them, and which of their files have several names. */
function openPortableLowers(
	options: OpenOptions,
	place: Place,
	lowers: readonly Layer[],
	registry: Registry,
	isOld: boolean,
	keep: Keep,
): void {
	noteAllLinkNames(options, place, lowers, isOld);
	for (const lower of lowers) {
		if (!(lower.handles instanceof PortableLower)) continue;
		lower.handles.onChanged = (name) => options.onChanged?.(join(lower.path, name.toString()));
		const rows = rowsFolder(place.folder, registry, lower);
		if (rows !== null && existsSync(rows)) lower.handles.rows = keep(new RebaseRows(rows));
		const links = linkNamesOf(place, lower);
		if (hasLinkNames(links)) lower.handles.links = keep(new LinkNames(links));
	}
}

function linkNamesOf(place: Place, lower: Layer): string {
	return linkNamesFolder(place.folder, lower.fileSystem.uuid.toString("hex"));
}

/** Which names of lower files lead to one: asked for at the first serve, and kept, since identity depends on it. */
function noteAllLinkNames(options: OpenOptions, place: Place, lowers: readonly Layer[], isOld: boolean): void {
	if (!options.linkNames) return;
	if (isOld && lowers.some((lower) => !hasLinkNames(linkNamesOf(place, lower)))) {
		throw new LayerError(
			"Cannot begin to follow the names of lower files (--link-names): this export has been served without, and handles that clients hold " +
				"would name other objects. Begin anew with a fresh upper and work.",
		);
	}
	if (isOld || !isFirst(options)) return;
	for (const lower of lowers)
		noteLinkNames(lower, linkNamesOf(place, lower), (directories) => options.onProgress?.(lower.path, directories));
}

/** Root marks its uppers in ways that others do not see. */
function refuseOthersUpper(upper: Layer): void {
	const uid = process.geteuid?.() ?? 0;
	if (upper.rootStat.uid === uid || mayUseTrusted()) return;
	throw new LayerError(
		`Cannot serve the upper ${upper.path} as user ${uid}: it belongs to user ${upper.rootStat.uid}, whose marks on it (trusted.overlay.*) ` +
			"this one may not see. Serve it as that user, or use an upper of your own.",
	);
}

function ownCredentials(): Credentials {
	return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, gids: process.getgroups?.() ?? [] };
}

/** Upper and work may have been copied since they were served last. */
function settlePlace(options: OpenOptions, writable: Writable, lowers: readonly Layer[], place: Place, isOld: boolean): void {
	if (options.purpose === "inspect") return;
	if (isOld && isMoved(writable, place.folder)) {
		const report = relink(writable, (directories) => options.onProgress?.(writable.layer.path, directories));
		options.onMoved?.(report);
	}
	notePlace(writable, place.folder);
	if (options.purpose === "serve") noteLowers(place.folder, lowers);
}

/** One server for each identity: a copy of an upper that is served beside its original would give the same handles to other files. */
function takeIdentity(upper: Layer, registry: Registry, ids: PortableUpper): void {
	const fd = takeAbstractName(`holdfast-${registry.uuid}`);
	if (fd >= 0) {
		ids.keep(fd);
		return;
	}
	if (fd !== -ERRNO.EADDRINUSE) throw new LayerError(`Cannot make sure that ${upper.path} is served once: ${errnoName(fd)}.`);
	throw new LayerError(
		`Cannot serve the upper ${upper.path}: another process on this machine serves the same export, so one of the two is a copy of the other. ` +
			"Stop that one first, or give this one an identity of its own with holdfast fork.",
	);
}

/** How an ordinary user keeps what only the superuser may say of real files. */
function keptRights(asRoot: boolean): KeptRights {
	return new KeptRights(asRoot, process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
}

/** Owners of symlinks are kept by the ids of those. */
function keepLinkOwners(upper: Layer, marks: RecordMap): void {
	const { rights, handles } = upper;
	if (!(rights instanceof KeptRights) || !rights.asRoot) return;
	const keyOf = (fd: number) => {
		const id = handles.of(fd);
		return typeof id === "number" ? null : Buffer.concat([Buffer.of(id.type), id.bytes, Buffer.from("owner")]);
	};
	rights.links = {
		get(fd) {
			const key = marks.isEmpty ? null : keyOf(fd);
			return key === null ? null : marks.get(key);
		},
		set(fd, value) {
			const key = keyOf(fd);
			if (key !== null) marks.set(key, value);
		},
	};
}

/** What is removed from work was never seen, or is not seen any more. */
function openIds(upper: Layer, work: WorkFolder, keep: Keep): PortableUpper | null {
	if (!upper.handles.isPortable) return null;
	const ids = keep(new PortableUpper(upper.root, work.own, upper.xattr.identity, upper.xattr.upper));
	upper.handles = ids;
	work.onRemoval = (fd) => ids.forgetBuilt(fd);
	return ids;
}

function openWritable(upper: Layer, place: Place, tree: SharedTree, keep: Keep): Writable {
	const work = place.work as string;
	const folder = (path: string) => tree.open(path);
	const workFolder = keep(new WorkFolder(folder(join(work, "work")), folder(place.folder), place.folder));
	const index = folder(indexPath(work, upper.handles.isPortable));
	keep({ close: () => close(index) });
	const writable: Writable = {
		layer: upper,
		work: workFolder,
		index: new IndexDirectory(index, upper, workFolder),
		linkCounts: keep(new LinkCounts(workFolder.own)),
		journal: keep(new Journal(place.folder, () => writable)),
		longRedirects: new LongRedirects(workFolder.own, workFolder.ownPath, upper),
		marks: keep(new RecordMap(place.folder, "marks")),
		ids: openIds(upper, workFolder, keep),
	};
	if (upper.rights.isKept) workFolder.whiteoutXattr = upper.xattr.whiteout;
	keepLinkOwners(upper, writable.marks);
	return writable;
}

const ROOT_FILEID = 1;

/** The root has no inode in its handle and no number of its own, so that neither can ever change. */
function addRoot(engine: Engine): void {
	const reals = engine.layers.map((layer) => {
		const root = new Real(layer, layer.rootHandle, layer.rootStat.inoHi, layer.rootStat.inoLo, false);
		readRootMarks(engine, root);
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
