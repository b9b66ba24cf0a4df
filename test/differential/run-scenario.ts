import { mkdirSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { TRUSTED_XATTRS } from "../../src/layer/layer.ts";
import { setUmask } from "../../src/linux/file-system.ts";
import { close, O, openPath } from "../../src/linux/open.ts";
import { fstat, Stat } from "../../src/linux/stat.ts";
import { copyMetadata } from "../../src/overlay/copy-up.ts";
import { OverlayError } from "../../src/overlay/errors.ts";
import { isAllowedField, isAllowedResult } from "./allowed-differences.ts";
import { HoldfastOverlay, type ObservedWithHandle } from "./holdfast-overlay.ts";
import { KernelOverlay, type LayerPaths } from "./kernel-overlay.ts";
import { Model, type ModelObject } from "./model.ts";
import { fingerprint, type Observed, type Tree } from "./observed.ts";
import { plantLowers } from "./plant.ts";
import { type Operation, type Scenario, showOperation } from "./scenario.ts";

/** Something is not as it must be. `signature` is the same for differences of one kind. */
export class Difference extends Error {
	readonly signature: string;

	constructor(signature: string, detail: string) {
		super(detail);
		this.name = "Difference";
		this.signature = signature;
	}
}

/** What a run did, to see that scenarios are worth their time. */
export interface Tally {
	/** By operation and result. */
	readonly results: Map<string, number>;
}

/** Runs a scenario in a new folder of a file system with uuid and handles; throws a Difference. */
export async function runScenario(folder: string, scenario: Scenario, tally?: Tally): Promise<void> {
	setUmask(0);
	mkdirSync(folder);
	const run = new Run(folder, scenario, tally);
	try {
		await run.go();
	} catch (error) {
		if (error instanceof Difference) throw new Difference(error.signature, `${run.place}: ${error.message}`);
		const { message, stack } = error as Error;
		const signature = `${run.place.replace(/^.*?: /, "").split(" ")[0]}: ${message.replace(/[^ ]*\/[^ ]*/g, "PATH")}`;
		throw new Difference(signature, `${run.place}: ${error instanceof OverlayError ? `${error.code}: ` : ""}${stack}`);
	} finally {
		await run.end();
		rmSync(folder, { recursive: true, force: true });
	}
}

class Run {
	/** For messages: where it is. */
	place = "start";
	readonly #folder: string;
	readonly #scenario: Scenario;
	readonly #tally: Tally | undefined;
	readonly #kernel: KernelOverlay;
	readonly #holdfast: HoldfastOverlay;
	readonly #holdfastPaths: LayerPaths;
	readonly #mounted = new Set<KernelOverlay>();
	#model!: Model;
	#firstObjects = 0;
	readonly #failedRenames = new Set<ModelObject | null>();
	/** The kernel could not do what holdfast did, so that its tree is another one from there on. */
	#isAlone = false;

	constructor(folder: string, scenario: Scenario, tally: Tally | undefined) {
		this.#folder = folder;
		this.#scenario = scenario;
		this.#tally = tally;
		const kernelPaths = this.#layers("kernel");
		this.#holdfastPaths = this.#layers("holdfast");
		const top = openPath(kernelPaths.lowers[0], O.path);
		const upper = openPath(kernelPaths.upper, O.path);
		const stat = new Stat();
		fstat(top, stat);
		// holdfast makes its upper like this by itself
		copyMetadata(TRUSTED_XATTRS, top, upper, stat);
		close(top);
		close(upper);
		this.#kernel = new KernelOverlay(kernelPaths);
		this.#holdfast = new HoldfastOverlay(this.#holdfastPaths, scenario);
	}

	#layers(side: "kernel" | "holdfast"): LayerPaths {
		const folder = join(this.#folder, side);
		mkdirSync(folder);
		const made = (name: string) => {
			mkdirSync(join(folder, name));
			return join(folder, name);
		};
		return {
			lowers: plantLowers(folder, this.#scenario.lowers),
			upper: side === "kernel" ? made("upper") : join(folder, "upper"),
			work: side === "kernel" ? made("work") : join(folder, "work"),
			state: made("state"),
			mountPoint: made("merged"),
		};
	}

	async go(): Promise<void> {
		const { operations, checksEach } = this.#scenario;
		const lowersBefore = this.#fingerprints();
		this.#mount(this.#kernel);
		this.#holdfast.open();
		await this.#begin();
		for (const [i, operation] of operations.entries()) {
			this.place = `operation ${i + 1}: ${showOperation(operation)}`;
			if (operation.kind === "restart" && !checksEach) await this.#compare();
			await this.#perform(operation);
			if (checksEach || operation.kind === "restart") await this.#compare();
		}
		this.place = "end";
		const last = await this.#compare();
		await this.#holdfast.close();
		this.#unmount(this.#kernel);
		this.#compareLowers(lowersBefore);
		await this.#release(last);
		this.place = "end of release";
		this.#compareLowers(lowersBefore);
	}

	async end(): Promise<void> {
		await this.#holdfast.close();
		for (const side of this.#mounted) side.unmount();
	}

	#mount(side: KernelOverlay): void {
		side.mount();
		this.#mounted.add(side);
	}

	#unmount(side: KernelOverlay): void {
		side.unmount();
		this.#mounted.delete(side);
	}

	#fingerprints(): string[] {
		return this.#holdfastPaths.lowers.map((path) => {
			const fd = openPath(path, O.path);
			const print = fingerprint(fd);
			close(fd);
			return print;
		});
	}

	#compareLowers(before: readonly string[]): void {
		const after = this.#fingerprints();
		for (const [i, print] of after.entries()) {
			if (print !== before[i]) throw new Difference("lower changed", `lower ${i} was\n${before[i]}\nand is\n${print}`);
		}
	}

	/** Takes down which objects there are at first. */
	async #begin(): Promise<void> {
		const tree = await this.#holdfast.observe(mistake);
		const root = tree.get("") as ObservedWithHandle;
		this.#model = new Model(Buffer.from(root.handle, "hex"), root.object);
		for (const [path, observed] of tree) {
			if (path === "") continue;
			const known = this.#model.objects.get(observed.handle);
			if (known !== undefined && known.type === "dir") throw new Difference("handle shared", `${path} has the handle of another directory`);
			const links = observed.type === "dir" ? 1 : observed.nlink;
			const object = known ?? this.#model.add(observed.type, Buffer.from(observed.handle, "hex"), observed.object, links);
			this.#model.enter(path.split("/"), object);
		}
		this.#firstObjects = this.#model.objects.size;
		await this.#compare();
	}

	async #perform(operation: Operation): Promise<void> {
		const ours = await this.#holdfast.perform(operation, this.#model);
		const count = `${operation.kind} ${ours.result.split(" ")[0]}`;
		this.#tally?.results.set(count, (this.#tally.results.get(count) ?? 0) + 1);
		const theirs = this.#isAlone ? ours.result : this.#kernel.perform(operation);
		if (theirs !== ours.result) {
			if (!isAllowedResult(operation, theirs, ours.result)) {
				const short = (result: string) => (result.startsWith("ok") ? "ok" : result);
				const signature = `${operation.kind}: kernel ${short(theirs)}, holdfast ${short(ours.result)}`;
				throw new Difference(signature, `the kernel says ${theirs}, holdfast ${ours.result}`);
			}
			this.#isAlone = ours.result.startsWith("ok");
		}
		if (operation.kind === "rename" && ours.result === "ENOTEMPTY") {
			for (const path of [operation.path, operation.to]) this.#failedRenames.add(this.#model.at(path.slice(0, -1)));
		}
		if (!ours.result.startsWith("ok")) return;
		let made: ModelObject | null = null;
		if (ours.made !== null && "path" in operation) {
			const existing = this.#model.at(operation.path);
			if (existing === null) made = this.#model.add(ours.made.type, ours.made.handle, ours.made.fileid, 1);
			else if (!existing.handle.equals(ours.made.handle)) {
				throw new Difference("handle changed", `${operation.kind} answers another handle than the existing object has`);
			}
		}
		this.#model.apply(operation, made);
	}

	/** Compares both trees, and ours with what handles and model say. */
	async #compare(): Promise<Map<string, ObservedWithHandle>> {
		const place = this.place;
		this.place = `${place}: comparing`;
		const inodes = statfsSync(this.#folder).ffree;
		const ours = await this.#holdfast.observe(mistake);
		await this.#compareHandles(ours);
		if (statfsSync(this.#folder).ffree !== inodes) throw new Difference("reads write", "reading the tree has made or removed inodes");
		if (!this.#isAlone) this.#compareTrees("kernel", this.#kernel.observe(), ours);
		this.place = place;
		return ours;
	}

	#compareTrees(oracle: "kernel" | "released", first: Tree, second: Tree): void {
		const lines: string[] = [];
		const kinds = new Set<string>();
		const name = oracle === "kernel" ? "the kernel" : "holdfast before release";
		const other = oracle === "kernel" ? "holdfast" : "the kernel after release";
		for (const [path, one] of first) {
			const two = second.get(path);
			if (two === undefined) {
				lines.push(`${path}: only ${name} has it (${one.type})`);
				kinds.add("name missing");
				continue;
			}
			const object = this.#model.at(path === "" ? [] : path.split("/"));
			const context = {
				oracle,
				first: one,
				second: two,
				links: object?.links ?? null,
				hasFailedRename: this.#failedRenames.has(object),
				isOfLower: object !== null && object.serial < this.#firstObjects,
			};
			for (const field of FIELDS) {
				if (one[field] === two[field] || isAllowedField(field, context)) continue;
				lines.push(
					`${path}: ${field}: ${name} ${one[field]}, ${other} ${two[field]}${field === "nlink" ? ` (by the operations ${object?.links})` : ""}`,
				);
				kinds.add(one.type === two.type ? `${field} of ${one.type}` : "type");
			}
		}
		for (const [path, two] of second) {
			if (first.has(path)) continue;
			lines.push(`${path}: only ${other} has it (${two.type})`);
			kinds.add("name too many");
		}
		for (const [path, one, two] of partitions(first, second)) {
			lines.push(`${path}: ${name} has it as one object with ${one}, ${other} with ${two}`);
			kinds.add("objects");
		}
		if (lines.length > 0)
			throw new Difference(`${oracle}: ${[...kinds].sort().join(", ")}`, `the trees differ:\n    ${lines.join("\n    ")}`);
	}

	/** Every handle ever given out leads to its object, or is stale because that is gone. */
	async #compareHandles(tree: ReadonlyMap<string, ObservedWithHandle>): Promise<void> {
		const { objects } = this.#model;
		const pathOf = new Map<ModelObject, string>();
		for (const [path, object] of this.#model.paths()) {
			pathOf.set(object, path);
			const observed = tree.get(path);
			if (observed === undefined) throw new Difference("model: name missing", `${path} (${object.type}) must be there`);
			if (observed.handle !== object.handle.toString("hex")) {
				throw new Difference("handle changed", `${path} (${object.type}) has another handle than before`);
			}
			if (observed.object !== object.fileid)
				throw new Difference("fileid changed", `${path} has file id ${observed.object}, not ${object.fileid}`);
		}
		for (const [path, observed] of tree) {
			if (this.#model.at(path === "" ? [] : path.split("/")) === null) {
				throw new Difference("model: name too many", `${path} (${observed.type}) must not be there`);
			}
		}
		for (const object of objects.values()) {
			const path = pathOf.get(object);
			const what = `${object.type} number ${object.serial} (${path ?? "without a name"}; ${object.links} links)`;
			const found = await this.#holdfast.outcome(() => this.#holdfast.observeHandle(object.handle));
			if (object.links === 0) {
				if (found !== "ESTALE") throw new Difference("gone, not stale", `${what} is gone, but its handle says ${JSON.stringify(found)}`);
				continue;
			}
			if (typeof found === "string") throw new Difference(`handle: ${found}`, `the handle of ${what} says ${found}`);
			if (found.handle !== object.handle.toString("hex"))
				throw new Difference("handle changed", `${what} shows another handle by its handle`);
			if (found.object !== object.fileid)
				throw new Difference("fileid changed", `${what} has file id ${found.object}, not ${object.fileid}`);
			if (object.type !== "dir" && found.nlink !== object.links)
				throw new Difference("nlink by handle", `${what} has nlink ${found.nlink}`);
			const named = path === undefined ? undefined : tree.get(path);
			if (named !== undefined && JSON.stringify(named) !== JSON.stringify(found)) {
				throw new Difference("handle differs from name", `${what}: by name ${JSON.stringify(named)}, by handle ${JSON.stringify(found)}`);
			}
		}
	}

	/** The kernel goes on with what holdfast wrote. */
	async #release(before: Tree): Promise<void> {
		this.place = "release";
		await this.#holdfast.release();
		this.place = "after release";
		const kernel = new KernelOverlay(this.#holdfastPaths);
		this.#mount(kernel);
		this.#compareTrees("released", before, kernel.observe());
		this.place = "the kernel copies up all that was released";
		this.#compareTrees("released", touchAll(kernel, before), kernel.observe());
		this.place = "the kernel removes all that was released";
		removeAll(kernel, before);
		this.#unmount(kernel);
	}
}

/** Sets the times of everything by every name; returns what the tree must be then. */
function touchAll(kernel: KernelOverlay, tree: Tree): Tree {
	const times = { kind: "utimes", seconds: 4, held: false } as const;
	for (const path of tree.keys()) {
		const result = kernel.perform({ ...times, path: path === "" ? [] : path.split("/") });
		if (result !== "ok") throw new Difference(`released: utimes ${result}`, `the kernel cannot set the times of ${path}: ${result}`);
	}
	return new Map([...tree].map(([path, observed]) => [path, { ...observed, mtime: "4.7", atime: "11.0" }]));
}

function removeAll(kernel: KernelOverlay, tree: Tree): void {
	const paths = [...tree].filter(([path]) => path !== "").sort(([a], [b]) => b.split("/").length - a.split("/").length);
	for (const [path, { type }] of paths) {
		const result = kernel.perform({ kind: type === "dir" ? "rmdir" : "unlink", path: path.split("/"), held: false });
		if (result !== "ok") throw new Difference(`released: remove ${result}`, `the kernel cannot remove ${path}: ${result}`);
	}
	const left = [...kernel.observe().keys()].filter((path) => path !== "");
	if (left.length > 0) throw new Difference("released: removed, still there", `after all was removed there is still ${left.join(", ")}`);
}

function mistake(what: string): never {
	throw new Difference(what.replace(/: .*/, ""), what);
}

const FIELDS: readonly (keyof Observed)[] = ["type", "mode", "owner", "size", "content", "mtime", "atime", "xattrs", "rdev", "nlink"];

/** Paths whose set of other names differs. */
function partitions(first: Tree, second: Tree): [string, string, string][] {
	const groups = (tree: Tree) => {
		const byObject = new Map<string, string[]>();
		for (const [path, { object }] of tree) byObject.set(object, [...(byObject.get(object) ?? []), path]);
		return new Map([...tree].map(([path, { object }]) => [path, (byObject.get(object) as string[]).sort().join(" ")]));
	};
	const one = groups(first);
	const two = groups(second);
	return [...one]
		.filter(([path, group]) => two.has(path) && two.get(path) !== group)
		.map(([path, group]) => [path, group, two.get(path) as string]);
}
