// Opens an export in five phases: layers, claim, engine, recovery, start.

import type { Layer } from "../../layer/layer.ts";
import { LayerError, UnfitError } from "../../layer/layer-error.ts";
import { setUmask } from "../../linux/file-system.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { type Credentials, FileType } from "../../vfs/operations.ts";
import { ofSystem } from "../../vfs/system-errors.ts";
import { PARTIAL_LIMITS, Partials } from "../data/partials.ts";
import type { Engine } from "../engine/engine.ts";
import type { Writable } from "../journal/writable.ts";
import { Durability } from "../operations/durability.ts";
import { Overlay } from "../operations/overlay.ts";
import { walkLinksElsewhere } from "../threads/link-walks.ts";
import { searchElsewhere } from "../threads/path-searches.ts";
import { Patience } from "../threads/patience.ts";
import { PartialRecords, runOf } from "../work/partial-record.ts";
import type { Registry } from "../work/registry.ts";
import type { Attempt, Resource } from "./attempt.ts";
import { Budget, type BudgetLimits } from "./budget.ts";
import { type ChosenHandles, chooseHandles, mayUseTrusted, withXattrs } from "./choose-handles.ts";
import { claimExport } from "./claim-export.ts";
import { type ExportPaths, isReachable } from "./export-paths.ts";
import { makeEngine } from "./make-engine.ts";
import { type OpenedLayers, openLayers } from "./open-layers.ts";
import type { OpenOptions } from "./open-options.ts";
import type { OpenedOverlay } from "./opened-overlay.ts";
import { linkNamesOf } from "./portable-lowers.ts";
import { recoverUpper } from "./recover-upper.ts";

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
	const opened: Resource[] = [];
	const made: Resource[] = [];
	const attempt: Attempt = {
		options,
		handles,
		budget,
		keepsRights: handles.kind === "portable" && (options.fakeRoot || !mayUseTrusted()),
		keep(resource) {
			opened.push(resource);
			return resource;
		},
		made,
	};
	try {
		return open(attempt, () => {
			for (const resource of opened.reverse()) resource.close();
		});
	} catch (error) {
		for (const resource of [...made, ...opened].reverse()) resource.close();
		throw asSentence(error);
	}
}

/** What Node's own calls throw meanwhile, as on a disk that is full or fails, is one sentence for people. */
function asSentence(error: unknown): unknown {
	const failure = ofSystem(error);
	return failure instanceof OverlayError && failure !== error ? new LayerError(`${failure.message}.`) : error;
}

function open(attempt: Attempt, closeAll: () => void): OpenedOverlay {
	const layers = openLayers(attempt);
	const claim = claimExport(attempt, layers);
	layers.lock?.keepFile();
	const engine = makeEngine(attempt, layers, claim);
	const adopted = recoverUpper(attempt, layers, claim, engine);
	const overlay = start(attempt, layers, engine, closeAll);
	return {
		overlay,
		registry: claim.registry,
		folder: layers.paths.folder,
		upper: layers.paths.upper,
		work: layers.paths.work,
		adopted,
		postponed: engine.writable?.journal.postponed.length ?? 0,
		handles: attempt.handles,
		actsAs: attempt.keepsRights && !attempt.options.fakeRoot ? ownCredentials() : null,
		isNewUpper: layers.paths.isNewUpper,
		isUpperExposed: layers.paths.isNewUpper && layers.paths.upper !== null && !attempt.keepsRights && isReachable(layers.paths.upper),
		foreignLowers: attempt.keepsRights ? layers.lowers.filter(isOthers).map(({ path }) => path) : [],
	};
}

/** The fifth phase: what runs beside requests, and the overlay that takes them. */
function start({ options, handles, budget, keep }: Attempt, layers: OpenedLayers, engine: Engine, closeAll: () => void): Overlay {
	const { writable } = engine;
	const durability = writable === null || options.purpose === "inspect" ? null : new Durability(engine, writable, options.isSync);
	if (durability !== null) startPartials(engine, durability, options, layers.paths, keep);
	if (writable !== null && options.purpose === "serve") {
		keep(engine.changeAttribute).begin(writable, layers.paths.folder, layers.paths.upper as string, engine.partials);
		learnIndex(engine, writable, keep);
		writable.work.trash.start(async (folder, names) => (await engine.freeing.run({ kind: "trash", folder, names })) as number);
	}
	const overlay = new Overlay(engine, durability, closeAll, options.listingLimits, budget.listings);
	// only now: what is done before the first request waits for its answers
	if (options.isPatient === true && options.purpose === "serve") {
		const lowers = [...layers.lowers, ...layers.dataLowers];
		const patience = new Patience(() => performance.now(), budget.lowerFileSystems);
		if (handles.kind === "portable") {
			searchElsewhere(patience, lowers);
			walkLinksElsewhere(patience, lowers, (lower) => linkNamesOf(layers.paths, lower), options.onLinkWalk ?? (() => {}));
		}
		engine.patience = patience;
		for (const layer of lowers) layer.beforeOpen = (handle) => patience.guard(layer, handle, null, "inode");
	}
	const keepsOrphans = options.restoresHolds === true || options.purpose === "adopt" || options.purpose === "inspect";
	if (!keepsOrphans) overlay.endOfRestore();
	return overlay;
}

/** When it has started: nothing waits for this, and a recovery and an adoption have made their entries. Where it fails the kernel goes on being asked. */
const LEARN_AFTER_MS = 500;

function learnIndex({ offload }: Engine, { index }: Writable, keep: Attempt["keep"]): void {
	const list = async (fd: number) => (await offload.run({ kind: "entries", fd })) as Uint32Array | number;
	const timer = setTimeout(() => index.learn(list).catch(() => undefined), LEARN_AFTER_MS).unref();
	keep({ close: () => clearTimeout(timer) });
}

/** What was copied up in part goes on where it was. */
function startPartials(engine: Engine, durability: Durability, options: OpenOptions, paths: ExportPaths, keep: Attempt["keep"]): void {
	const records = keep(new PartialRecords(paths.folder, runOf(paths.upper as string)));
	const fills = options.purpose === "serve" && (options.partialLimits?.fills ?? PARTIAL_LIMITS.fills);
	const limits = { ...PARTIAL_LIMITS, ...options.partialLimits, fills };
	const partials = new Partials(engine, records, (fd) => durability.content(fd), limits);
	engine.partials = partials;
	engine.nodes.onBury = (node) => {
		if (node.type === FileType.reg && node.isUpper && node.top.layer.mayHoldMetacopies && node.data !== node.top) partials.drop(node.top);
	};
	partials.load();
}

function isOthers(lower: Layer): boolean {
	return lower.rootStat.uid !== process.geteuid?.();
}

function ownCredentials(): Credentials {
	return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, gids: process.getgroups?.() ?? [] };
}
