import { createHash, randomBytes } from "node:crypto";
import {
	closeSync,
	existsSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	realpathSync,
	rmdirSync,
	statSync,
	writeSync,
} from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { sipKey } from "../handle/sip-hash.ts";
import { HandleSigner } from "../handle/wire-handle.ts";
import {
	type Layer,
	LayerError,
	LayerOpener,
	onOneMount,
	openDirectory,
	overlayXattrs,
	privateTree,
	refuseOverlaps,
} from "../layer/layer.ts";
import { DescriptorCache, Real } from "../layer/real.ts";
import { ERRNO, errnoName } from "../linux/errno.ts";
import { type FileHandle, handleOf } from "../linux/file-handle.ts";
import { setUmask, tryLock } from "../linux/file-system.ts";
import { raiseDescriptorLimit } from "../linux/limits.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { fstat, mountId, Stat } from "../linux/stat.ts";
import { getXattr, setXattr } from "../linux/xattr.ts";
import { type AdoptionReport, adoptLower, Redirects } from "./adoption.ts";
import { copyMetadata } from "./copy-up.ts";
import { Durability } from "./durability.ts";
import { type Engine, type Home, ROOT_HOME, type Writable } from "./engine.ts";
import { IndexDirectory } from "./index-directory.ts";
import { Journal } from "./journal.ts";
import { LinkCounts } from "./link-counts.ts";
import type { ListingLimits } from "./listing.ts";
import { LongRedirects } from "./long-redirects.ts";
import { ROOT_KEY } from "./lookup.ts";
import { Node } from "./node.ts";
import { NodeCache } from "./node-cache.ts";
import { Offload } from "./offload.ts";
import { Overlay } from "./overlay.ts";
import {
	createRegistry,
	flushFolder,
	type HomeRecord,
	type LayerRecord,
	newSecrets,
	type Registry,
	readRegistry,
	type SpaceRecord,
	writeRegistry,
} from "./registry.ts";
import { FileType } from "./types.ts";
import { refuseForeignUpper } from "./upper-check.ts";
import { WorkFolder } from "./work-folder.ts";

export interface OpenOptions {
	/** Directories, from the topmost down; at least one. */
	readonly lowers: readonly string[];
	/** Absent for a read-only export. */
	readonly upper?: string | undefined;
	/** By default a sibling of upper. */
	readonly work?: string | undefined;
	/** Where exports without an upper keep their registry, and `serve DIR` its changes. */
	readonly stateFolder: string;
	/** Answer a change only when it is stable. */
	readonly isSync: boolean;
	/** `inspect` reads what is there, beside a running server, and changes nothing. */
	readonly purpose: "serve" | "inspect" | "release" | "adopt";
	readonly nodesMax?: number;
	readonly descriptorsMax?: number;
	readonly listingLimits?: ListingLimits;
}

/** An overlay, and what its user should be told about it. */
export interface OpenedOverlay {
	readonly overlay: Overlay;
	readonly registry: Registry;
	/** The folder of the export's own state: registry, saved replies. */
	readonly folder: string;
	readonly upper: string | null;
	readonly work: string | null;
}

const NODES_MAX = 65536;
/** Descriptors left for connections, workers and the one operation that runs. */
const DESCRIPTORS_RESERVED = 2048;
const DESCRIPTORS_MIN = 64;
const DESCRIPTORS_MAX = 65536;

/** Opens layers, upper and registry in the order that keeps what is not ours. LayerError, RegistryError: it cannot be served as it is. */
export function openOverlay(options: OpenOptions): OpenedOverlay {
	if (options.lowers.length === 0) throw new LayerError("Name at least one lower directory to serve.");
	setUmask(0);
	const limit = raiseDescriptorLimit();
	const opened: { close(): void }[] = [];
	const made: { close(): void }[] = [];
	try {
		return open(options, limit, opened, made);
	} catch (error) {
		for (const resource of [...made, ...opened].reverse()) resource.close();
		throw error;
	}
}

function open(options: OpenOptions, descriptorLimit: number, opened: { close(): void }[], made: { close(): void }[]): OpenedOverlay {
	const opener = new LayerOpener();
	const keep = <T extends { close(): void }>(resource: T): T => {
		opened.push(resource);
		return resource;
	};
	const lowers = options.lowers.map((path) => keep(opener.openLower(path)));
	refuseOverlaps(lowers);
	const place = options.upper === undefined ? readOnlyPlace(options, lowers) : upperPlace(options, options.upper, lowers, made);
	const tree = place.upper === null || place.work === null ? null : keep(openSharedTree(place.upper, place.work));
	const upper = tree === null || place.upper === null ? null : keep(opener.openUpper(place.upper, tree.open(place.upper)));
	const layers = upper === null ? lowers : [upper, ...lowers];
	if (upper !== null) refuseOverlaps(layers);
	refuseNameless(layers, place.folder);
	if (upper !== null && options.purpose !== "inspect") lockUpper(upper, place.folder);
	refuseFormerUppers(options, place, lowers);
	const registry = openRegistry(options, place, upper, lowers);
	assignNumbers(registry, upper, lowers);
	const descriptors = new DescriptorCache(
		options.descriptorsMax ??
			Math.min(Math.max(Math.floor((descriptorLimit - DESCRIPTORS_RESERVED) / 2), DESCRIPTORS_MIN), DESCRIPTORS_MAX),
	);
	const writable = upper === null || tree === null ? null : openWritable(upper, place, tree, keep);
	const engine: Engine = {
		layers,
		xattr: layers[0].xattr,
		writable,
		signer: new HandleSigner(
			registry.exportId,
			new Map(registry.keys.map((key) => [key.id, sipKey(Buffer.from(key.secret, "hex"))])),
			registry.signingKey,
		),
		cookieKey: sipKey(Buffer.from(registry.cookieSecret, "hex")),
		homes: homesOf(registry, layers),
		descriptors,
		nodes: new NodeCache(options.nodesMax ?? NODES_MAX, descriptors),
		offload: new Offload(),
		redirects: options.purpose === "adopt" || registry.lowers.some((lower) => lower.adopted) ? keep(new Redirects(place.folder)) : null,
		request: null,
	};
	addRoot(engine);
	// while a layer is being adopted its redirects are followed
	if (options.purpose === "adopt") for (const lower of lowers) lower.isAdopted = true;
	if (writable !== null && options.purpose !== "inspect") {
		// what an interrupted change still needs of work must be taken out of it before the rest is thrown away
		writable.journal.recover();
		writable.work.clean();
	}
	const durability = writable === null || options.purpose === "inspect" ? null : keep(new Durability(engine, writable, options.isSync));
	const closeAll = () => {
		for (const resource of opened.reverse()) if (resource !== durability) resource.close();
	};
	const overlay = new Overlay(engine, durability, closeAll, options.listingLimits);
	return { overlay, registry, folder: place.folder, upper: place.upper, work: place.work };
}

/** May make an export of layers that were never one. */
function isFirst(options: OpenOptions): boolean {
	return options.purpose === "serve" || options.purpose === "adopt";
}

/** Where the changeable parts of an export are. */
interface Place {
	readonly folder: string;
	readonly upper: string | null;
	readonly work: string | null;
	/** Upper was made just now, so it takes the look of the topmost lower. */
	readonly isNewUpper: boolean;
}

function layerName(lowers: readonly Layer[]): string {
	const hash = createHash("sha256");
	for (const lower of lowers) hash.update(lower.fileSystem.uuid).update(rootName(lower.rootHandle)).update("\n");
	return hash.digest("hex").slice(0, 24);
}

/** Found again by the file systems and root ids of the layers, wherever they are mounted. */
function readOnlyPlace(options: OpenOptions, lowers: readonly Layer[]): Place {
	refuseInside(options.stateFolder, lowers, "the state folder");
	const folder = join(options.stateFolder, "read-only", layerName(lowers));
	if (isFirst(options)) makeFolder(folder, "the state folder");
	return { folder, upper: null, work: null, isNewUpper: false };
}

/** Upper and work that `serve DIR` keeps for a tree. */
export function defaultUpper(stateFolder: string, lower: string): { readonly upper: string; readonly work: string } {
	const layer = new LayerOpener().openLower(lower);
	try {
		refuseInside(stateFolder, [layer], "the state folder, where the changes would be kept,");
		const folder = join(stateFolder, "changes", layerName([layer]));
		return { upper: join(folder, "upper"), work: join(folder, "work") };
	} finally {
		layer.close();
	}
}

function upperPlace(options: OpenOptions, upperPath: string, lowers: readonly Layer[], opened: { close(): void }[]): Place {
	const upper = resolve(upperPath);
	const work = resolve(options.work ?? join(dirname(upper), `${basename(upper)}.work`));
	refuseInside(upper, lowers, "the upper");
	refuseInside(work, lowers, "the work folder");
	const isNewUpper = !existsSync(upper);
	const folder = join(work, "holdfast");
	if (isFirst(options)) {
		// a parent that is not there is a typing error more often than a wish
		for (const made of [
			makeFolder(upper, "the upper", dirname(upper).startsWith(resolve(options.stateFolder))),
			makeFolder(work, "the work folder", false),
		]) {
			if (made !== undefined) opened.push({ close: () => removeEmpty(made) });
		}
	} else if (isNewUpper || !existsSync(folder)) {
		throw new LayerError(`Cannot find what holdfast keeps of ${upper}: there is no ${isNewUpper ? upper : folder}.`);
	}
	checkWork(upper, work, lowers);
	return { folder, upper, work, isNewUpper };
}

/** What was made for an export that then could not be served goes again. */
function removeEmpty(path: string): void {
	try {
		rmdirSync(path);
	} catch {
		// it is in use, or has been removed already
	}
}

/** The folder itself if it was made, undefined if it was there. */
function makeFolder(path: string, what: string, withParents = true): string | undefined {
	try {
		if (withParents) return mkdirSync(path, { recursive: true, mode: 0o700 });
		mkdirSync(path, { mode: 0o700 });
		return path;
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "EEXIST" && statSync(path).isDirectory()) return undefined;
		if (code === "ENOENT") throw new LayerError(`Cannot make ${what} ${path}: there is no folder ${dirname(path)}.`);
		throw new LayerError(`Cannot make ${what} ${path}: ${code === "EEXIST" ? "it is not a directory" : code}.`);
	}
}

/** Work and upper must allow rename(2) between them, and neither may lie in the other. */
function checkWork(upper: string, work: string, lowers: readonly Layer[]): void {
	const upperFd = openPath(upper, O.rdonly | O.directory);
	const workFd = openPath(work, O.rdonly | O.directory);
	try {
		if (upperFd < 0) throw new LayerError(`Cannot open the upper ${upper}: ${errnoName(upperFd)}.`);
		if (workFd < 0) throw new LayerError(`Cannot open the work folder ${work}: ${errnoName(workFd)}.`);
		const upperStat = new Stat();
		const workStat = new Stat();
		fstat(upperFd, upperStat);
		fstat(workFd, workStat);
		if (upperStat.sameInode(workStat))
			throw new LayerError(`Cannot use ${upper} as both upper and work: they are the same directory. Give work one of its own.`);
		if (upperStat.devMajor !== workStat.devMajor || upperStat.devMinor !== workStat.devMinor || !onOneMount(upperFd, workFd)) {
			throw new LayerError(`Cannot use the work folder ${work}: it must be on the same file system and mount as the upper ${upper}.`);
		}
		for (const lower of lowers) {
			if (!lower.isRoot(workStat) && !isBelow(lower.outside, workStat)) continue;
			throw new LayerError(`Cannot use the work folder ${work}: the lower ${lower.path} lies inside it. Choose another --work.`);
		}
		if (isBelow(workFd, upperStat)) throw new LayerError(`Cannot use the work folder ${work}: it lies inside the upper ${upper}.`);
		if (isBelow(upperFd, workStat)) throw new LayerError(`Cannot use the upper ${upper}: it lies inside the work folder ${work}.`);
	} finally {
		if (upperFd >= 0) close(upperFd);
		if (workFd >= 0) close(workFd);
	}
}

/** Whether a directory lies below another, up to the root of its mounts. */
function isBelow(fd: number, ancestor: Stat): boolean {
	const stat = new Stat();
	const before = new Stat();
	fstat(fd, before);
	let at = openAt(fd, "..", O.path);
	for (;;) {
		if (at < 0) return false;
		fstat(at, stat);
		if (stat.sameInode(ancestor) || stat.sameInode(before)) break;
		fstat(at, before);
		const next = openAt(at, "..", O.path);
		close(at);
		at = next;
	}
	close(at);
	return stat.sameInode(ancestor);
}

/** What holdfast writes must not lie in a tree that it serves and never writes. Checked before anything is made. */
function refuseInside(path: string, lowers: readonly Layer[], what: string): void {
	let existing = resolve(path);
	while (!existsSync(existing)) existing = dirname(existing);
	const fd = openPath(realpathSync(existing), O.path);
	if (fd < 0) throw new LayerError(`Cannot open ${existing}: ${errnoName(fd)}.`);
	try {
		const stat = new Stat();
		fstat(fd, stat);
		for (const lower of lowers) {
			if (!lower.isRoot(stat) && !(stat.type === FileType.dir && isBelow(fd, lower.rootStat))) continue;
			throw new LayerError(
				`Cannot keep ${what} in ${path}: it lies inside the lower ${lower.path}, which is never written to. ` +
					"Choose another place with --upper and --work, or with --state-dir.",
			);
		}
	} finally {
		close(fd);
	}
}

/** A lower whose root has overlay xattrs was an upper once: where its redirects lead from must be known before a handle is given. */
function refuseFormerUppers(options: OpenOptions, place: Place, lowers: readonly Layer[]): void {
	if (options.purpose === "adopt") return;
	const registry = readRegistry(place.folder);
	for (const [i, lower] of lowers.entries()) {
		const marks = overlayXattrs(lower.root, lower.xattr);
		if (marks.length === 0 || registry?.lowers[i]?.adopted) continue;
		throw new LayerError(
			`Cannot serve the lower ${lower.path}: its root carries overlay attributes (${marks.join(", ")}), so it was an upper once. ` +
				"Run `holdfast adopt` with the same layers first: it notes where the redirects of such a lower lead from, and never writes to it.",
		);
	}
}

/** Notes the redirects of all lowers that once were uppers. The overlay must have been opened for it; it is of no other use then. */
export function adoptLowers(opened: OpenedOverlay, progress: (layer: string, directories: number) => void): AdoptionReport[] {
	const { engine } = opened.overlay;
	const lowers = engine.layers.filter((layer) => !layer.isUpper);
	const reports: AdoptionReport[] = [];
	const adopted = new Set<number>();
	for (const [i, layer] of lowers.entries()) {
		// the lowest has nothing below it to redirect to; of the others the root's attributes do not always tell
		const isLowest = i === lowers.length - 1;
		if (engine.redirects === null || (isLowest && overlayXattrs(layer.root, layer.xattr).length === 0)) continue;
		adopted.add(i);
		reports.push(adoptLower(engine, engine.redirects, layer, (directories) => progress(layer.path, directories)));
	}
	const records = opened.registry.lowers.map((record, i) => (adopted.has(i) ? { ...record, adopted: true } : record));
	writeRegistry(opened.folder, { ...opened.registry, lowers: records });
	return reports;
}

/** A file system without a uuid is recognised again only where the registry itself lies on it. */
function refuseNameless(layers: readonly Layer[], folder: string): void {
	const stat = new Stat();
	let existing = folder;
	while (!existsSync(existing)) existing = dirname(existing);
	const fd = openPath(existing, O.path);
	if (fd >= 0) {
		fstat(fd, stat);
		close(fd);
	}
	for (const layer of layers) {
		if (layer.fileSystem.uuid.some((byte) => byte !== 0)) continue;
		const { devMajor, devMinor } = layer.rootStat;
		if (devMajor === stat.devMajor && devMinor === stat.devMinor) continue;
		throw new LayerError(
			`Cannot recognise the file system (${layer.fileSystem.name}) of ${layer.path} again: it has no uuid. ` +
				"Give it one (tune2fs -U random), or keep the work or state folder on that same file system.",
		);
	}
}

/** One server for an upper; the lock ends with the process. Its pid is kept beside the registry. */
function lockUpper(upper: Layer, folder: string): void {
	const pidPath = join(folder, "pid");
	const status = tryLock(upper.root);
	if (status === -ERRNO.EWOULDBLOCK) {
		const pid = existsSync(pidPath) ? readFileSync(pidPath, "utf8").trim() : "";
		throw new LayerError(
			`Cannot serve the upper ${upper.path}: ${pid === "" ? "another process" : `the process ${pid}`} is serving it. Stop that one first.`,
		);
	}
	if (status < 0) throw new LayerError(`Cannot lock the upper ${upper.path}: ${errnoName(status)}.`);
}

function writePid(folder: string): void {
	const file = openSync(join(folder, "pid"), "w", 0o600);
	writeSync(file, `${process.pid}\n`);
	closeSync(file);
}

function rootName(handle: FileHandle): string {
	return `${handle.type}:${handle.bytes.toString("hex")}`;
}

function openRegistry(options: OpenOptions, place: Place, upper: Layer | null, lowers: readonly Layer[]): Registry {
	const existing = readRegistry(place.folder);
	if (upper !== null && place.work !== null) checkOwnership(options, place, upper, lowers, existing);
	if (existing !== null) {
		checkStack(existing, upper, lowers, place);
		if (upper !== null && options.purpose !== "inspect") writePid(place.folder);
		return existing;
	}
	if (!isFirst(options)) {
		throw new LayerError(`Cannot find the registry of this export in ${place.folder}: these layers have not been served yet.`);
	}
	const registry = newRegistry(upper, lowers);
	if (upper !== null && place.work !== null) firstServe(place, upper, lowers, registry);
	const written = createRegistry(place.folder, registry);
	if (upper !== null) writePid(place.folder);
	return written;
}

/** The marker stands in `work/work/incompat` from the first serve until release: the kernel refuses to mount while it does. */
export const MARKER = "holdfast";

export function markerFolder(work: string): string {
	return join(work, "work", "incompat");
}

function incompatible(work: string): string[] {
	const fd = openPath(markerFolder(work), O.rdonly | O.directory);
	if (fd < 0) return [];
	close(fd);
	return readFolder(markerFolder(work));
}

function readFolder(path: string): string[] {
	return existsSync(path) ? readdirSync(path) : [];
}

/** What is not ours, or not surely as we left it, is not touched. */
function checkOwnership(options: OpenOptions, place: Place, upper: Layer, lowers: readonly Layer[], existing: Registry | null): void {
	const work = place.work as string;
	const entries = incompatible(work);
	const others = entries.filter((name) => name !== MARKER);
	if (others.length > 0) {
		throw new LayerError(
			`Cannot use the work folder ${work}: work/incompat says that another program keeps it in a state of its own (${others.join(", ")}; ` +
				'"volatile" means that a crash may have lost data). Look at the upper, and start with a fresh upper and work.',
		);
	}
	const hasMarker = entries.includes(MARKER);
	const mark = getXattr(upper.root, upper.xattr.identity);
	const owner = typeof mark === "number" ? null : mark.toString("hex");
	if (existing !== null) {
		if (owner !== existing.uuid) {
			throw new LayerError(
				`Cannot serve ${upper.path} with the work folder ${work}: that one belongs to another upper. Name the right --work.`,
			);
		}
		if (hasMarker || options.purpose === "inspect") return;
		throw new LayerError(
			`Cannot serve the upper ${upper.path}: it was released, or its marker in ${markerFolder(work)} was removed, and the kernel may have ` +
				"changed it since. Taking it back needs adoption, which does not exist yet; start with a fresh upper.",
		);
	}
	if (owner !== null && !hasMarker) {
		throw new LayerError(
			`Cannot serve the upper ${upper.path} with the work folder ${work}: the upper was served with another one. Name that with --work.`,
		);
	}
	if (isFirst(options)) refuseForeignUpper(upper, lowers, work, hasMarker);
}

function newRegistry(upper: Layer | null, lowers: readonly Layer[]): Registry {
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
	return { ...newSecrets(), homes, spaces, lowers: records, upper: upperRecord };
}

/** Each subvolume of a btrfs counts its inodes for itself; its id stands in every handle of it (objectid, root, generation). */
function subvolumeOf(layer: Layer): string {
	return layer.fileSystem.name === "btrfs" ? layer.rootHandle.bytes.subarray(8, 16).toString("hex") : "";
}

function firstServe(place: Place, upper: Layer, lowers: readonly Layer[], registry: Registry): void {
	const work = place.work as string;
	makeFolder(markerFolder(work), "the marker's folder");
	makeFolder(join(work, "index"), "the index");
	makeFolder(place.folder, "the folder");
	makeFolder(join(markerFolder(work), MARKER), "the marker");
	for (const folder of [markerFolder(work), join(work, "work"), place.folder, work, dirname(work)]) flushFolder(folder);
	if (place.isNewUpper) {
		const stat = new Stat();
		fstat(lowers[0].root, stat);
		copyMetadata(upper.xattr, lowers[0].root, upper.root, stat);
		fstat(upper.root, upper.rootStat);
	}
	const status = setXattr(upper.root, upper.xattr.identity, Buffer.from(registry.uuid, "hex"));
	if (status === -ERRNO.EPERM) {
		throw new LayerError(
			`Cannot mark the upper ${upper.path}: trusted extended attributes need the privilege CAP_SYS_ADMIN. Run holdfast as root; ` +
				"serving without root needs portable handles, which do not exist yet.",
		);
	}
	if (status < 0) {
		throw new LayerError(
			`Cannot mark the upper ${upper.path}: its file system (${upper.fileSystem.name}) refuses extended attributes (${errnoName(status)}).`,
		);
	}
}

/** The registry says which directories the layers are; other ones are not this export. */
function checkStack(registry: Registry, upper: Layer | null, lowers: readonly Layer[], place: Place): void {
	const uuids = new Map(registry.homes.map((home) => [home.number, home.uuid]));
	const same = (layer: Layer, record: LayerRecord | undefined) =>
		record !== undefined &&
		record.root === rootName(layer.rootHandle) &&
		(layer.isUpper || uuids.get(record.home) === layer.fileSystem.uuid.toString("hex"));
	if (upper !== null && !same(upper, registry.upper ?? undefined)) {
		throw new LayerError(
			`Cannot serve the upper ${upper.path}: it is another directory than the one that ${place.folder} was made for (perhaps a copy). ` +
				"Handles would name other files; serve the original, or start with a fresh upper and work.",
		);
	}
	const wrong = lowers.findIndex((lower, i) => !same(lower, registry.lowers[i]));
	if (wrong >= 0 || lowers.length !== registry.lowers.length) {
		const which =
			wrong >= 0 ? `${lowers[wrong].path} is not the one that was there before` : `there were ${registry.lowers.length} of them`;
		throw new LayerError(
			`Cannot serve these lowers on this upper: ${which}. Give the same lowers in the same order, or start with a fresh upper and work.`,
		);
	}
}

function assignNumbers(registry: Registry, upper: Layer | null, lowers: readonly Layer[]): void {
	const assign = (layer: Layer, record: LayerRecord) => {
		layer.home = record.home;
		layer.isAdopted = record.adopted ?? false;
		const subvolume = layer.isUpper ? "" : subvolumeOf(layer);
		layer.space = registry.spaces.find((space) => space.home === record.home && space.subvolume === subvolume)?.number ?? 0;
	};
	for (const [i, lower] of lowers.entries()) assign(lower, registry.lowers[i]);
	if (upper !== null && registry.upper !== null) assign(upper, registry.upper);
}

function homesOf(registry: Registry, layers: readonly Layer[]): Map<number, Home> {
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

/** Upper and work on one private mount: what is opened by way of it can be renamed from one to the other, and reading leaves no access times. */
interface SharedTree {
	/** A readable descriptor of a directory in it, by its path outside. */
	open(path: string): number;
	close(): void;
}

function openSharedTree(upper: string, work: string): SharedTree {
	const [a, b] = [realpathSync(upper), realpathSync(work)];
	let base = a;
	while (base !== "/" && b !== base && !b.startsWith(`${base}/`)) base = dirname(base);
	const directory = openDirectory(base, "folder");
	const root = privateTree(directory, base, false);
	close(directory);
	if (root < 0) throw new LayerError(`Cannot make a private mount of ${base}: ${errnoName(root)}.`);
	return {
		open(path) {
			const inside = relative(base, realpathSync(path));
			const fd = openAt(root, inside === "" ? "." : inside, O.rdonly | O.directory);
			if (fd < 0) throw new LayerError(`Cannot open ${path}: ${errnoName(fd)}.`);
			return fd;
		},
		close: () => close(root),
	};
}

function openWritable(upper: Layer, place: Place, tree: SharedTree, keep: <T extends { close(): void }>(resource: T) => T): Writable {
	const work = place.work as string;
	const folder = (path: string) => tree.open(path);
	const workFolder = keep(new WorkFolder(folder(join(work, "work")), folder(place.folder), place.folder));
	const index = folder(join(work, "index"));
	keep({ close: () => close(index) });
	const writable: Writable = {
		layer: upper,
		work: workFolder,
		index: new IndexDirectory(index, upper, workFolder),
		linkCounts: keep(new LinkCounts(workFolder.own)),
		journal: keep(new Journal(place.folder, () => writable)),
		longRedirects: new LongRedirects(workFolder.own, workFolder.ownPath),
	};
	return writable;
}

const ROOT_FILEID = 1;

/** The root has no inode in its handle and no number of its own, so that neither can ever change. */
function addRoot(engine: Engine): void {
	const reals = engine.layers.map((layer) => {
		const handle = handleOf(layer.root);
		if (typeof handle === "number") throw new LayerError(`Cannot take the handle of ${layer.path}: ${errnoName(handle)}.`);
		return new Real(layer, handle, layer.rootStat.inoHi, layer.rootStat.inoLo, false);
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
