import { mkdirSync, statfsSync } from "node:fs";
import { TRUSTED_XATTRS } from "../../src/layer/layer.ts";
import { REAL_RIGHTS } from "../../src/layer/rights.ts";
import { setUmask } from "../../src/linux/file-system.ts";
import { close, O, openPath } from "../../src/linux/open.ts";
import { fstat, Stat } from "../../src/linux/stat.ts";
import { copyMetadata } from "../../src/overlay/copy-up/copy-up.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { isAllowedResult } from "./allowed-differences.ts";
import { compareHandles, compareNames, compareTrees, Difference, type Known, mistake } from "./compare.ts";
import { HoldfastOverlay, type ObservedWithHandle } from "./holdfast-overlay.ts";
import { KernelOverlay } from "./kernel-overlay.ts";
import { Model, type ModelObject } from "./model.ts";
import { fingerprint, type Tree } from "./observed.ts";
import type { LayerPaths, Rig } from "./rig.ts";
import { type Operation, type Scenario, showOperation } from "./scenario.ts";

/** What runs did, to see that scenarios are worth their time. */
export interface Tally {
	/** By operation and result. */
	readonly results: Map<string, number>;
	/** By name: the allowed differences that were met. */
	readonly allowed: Map<string, number>;
}

export function count(counts: Map<string, number> | undefined, what: string): void {
	counts?.set(what, (counts.get(what) ?? 0) + 1);
}

/** Runs a scenario on holdfast and on the kernel, each with layers of its own, `name` being new to the rig; throws a Difference. */
export async function runScenario(rig: Rig, name: string, scenario: Scenario, tally?: Tally): Promise<void> {
	setUmask(0);
	const run = new Run(rig, name, scenario, tally);
	try {
		await run.go();
	} catch (error) {
		throw asDifference(error, run.place);
	} finally {
		await run.end();
		rig.remove(name);
	}
}

/** Whatever was thrown while a run was at a place. */
export function asDifference(error: unknown, place: string): Difference {
	if (error instanceof Difference) return new Difference(error.signature, `${place}: ${error.message}`);
	const { message, stack } = error as Error;
	const signature = `${place.replace(/^.*?: /, "").split(" ")[0]}: ${message.replace(/[^ ]*\/[^ ]*/g, "PATH")}`;
	return new Difference(signature, `${place}: ${error instanceof OverlayError ? `${error.code}: ` : ""}${stack}`);
}

/** Fingerprints of all lowers, which nothing may ever change. */
export function fingerprints(paths: readonly string[]): string[] {
	return paths.map((path) => {
		const fd = openPath(path, O.path);
		const print = fingerprint(fd);
		close(fd);
		return print;
	});
}

export function compareLowers(paths: readonly string[], before: readonly string[]): void {
	for (const [i, print] of fingerprints(paths).entries()) {
		if (print !== before[i]) throw new Difference("lower changed", `lower ${i} was\n${before[i]}\nand is\n${print}`);
	}
}

/** Gives the root of an upper the look of the topmost lower's, as holdfast does by itself. */
export function dressUpper(paths: LayerPaths): void {
	mkdirSync(paths.upper);
	mkdirSync(paths.work);
	const top = openPath(paths.lowers[0], O.path);
	const upper = openPath(paths.upper, O.path);
	const stat = new Stat();
	fstat(top, stat);
	copyMetadata({ xattr: TRUSTED_XATTRS, rights: REAL_RIGHTS }, top, upper, stat);
	close(top);
	close(upper);
}

/** Takes down which objects there are at first. */
export function modelOf(tree: ReadonlyMap<string, ObservedWithHandle>): Model {
	const root = tree.get("") as ObservedWithHandle;
	const model = new Model();
	model.learn(model.root, Buffer.from(root.handle, "hex"), root.object);
	for (const [path, observed] of tree) {
		if (path === "") continue;
		const known = model.objects.get(observed.handle);
		if (known !== undefined && known.type === "dir") throw new Difference("handle shared", `${path} has the handle of another directory`);
		const links = observed.type === "dir" ? 1 : observed.nlink;
		const object = known ?? model.add(observed.type, Buffer.from(observed.handle, "hex"), observed.object, links);
		model.enter(path.split("/"), object);
	}
	return model;
}

class Run {
	/** For messages: where it is. */
	place = "start";
	readonly #rig: Rig;
	readonly #scenario: Scenario;
	readonly #tally: Tally | undefined;
	readonly #kernel: KernelOverlay;
	readonly #holdfast: HoldfastOverlay;
	readonly #paths: LayerPaths;
	readonly #kernels: KernelOverlay[] = [];
	#model!: Model;
	#firstObjects = 0;
	readonly #failedRenames = new Set<ModelObject | null>();
	/** The kernel could not do what holdfast did, so that its tree is another one from there on. */
	#isAlone = false;

	constructor(rig: Rig, name: string, scenario: Scenario, tally: Tally | undefined) {
		this.#rig = rig;
		this.#scenario = scenario;
		this.#tally = tally;
		const kernelPaths = rig.layers(name, "kernel", scenario);
		dressUpper(kernelPaths);
		this.#paths = rig.layers(name, "holdfast", scenario);
		this.#kernel = new KernelOverlay(kernelPaths, rig.options);
		this.#kernels.push(this.#kernel);
		this.#holdfast = new HoldfastOverlay(this.#paths, scenario, rig.holdfast);
	}

	async go(): Promise<void> {
		const { operations, checksEach } = this.#scenario;
		const lowersBefore = fingerprints(this.#paths.lowers);
		this.#kernel.mount();
		this.#holdfast.open();
		this.#model = modelOf(await this.#holdfast.observe(mistake));
		this.#firstObjects = this.#model.objects.size;
		await this.#compare();
		for (const [i, operation] of operations.entries()) {
			this.place = `operation ${i + 1}: ${showOperation(operation)}`;
			if (operation.kind === "restart" && !checksEach) await this.#compare();
			await this.#perform(operation, operations.length - i <= ALONE_OPERATIONS);
			if (checksEach || operation.kind === "restart") await this.#compare();
		}
		this.place = "end";
		const last = await this.#compare();
		await this.#holdfast.close();
		this.#kernel.unmount();
		compareLowers(this.#paths.lowers, lowersBefore);
		// redirects, which holdfast writes with userxattr too, are what the kernel does not follow then
		if (this.#rig.usesUserXattrs && this.#isAlone) return;
		// its owners and modes are in attributes that the kernel does not read
		if (this.#rig.name === "ordinary") return;
		await this.#release(last);
		this.place = "end of release";
		compareLowers(this.#paths.lowers, lowersBefore);
	}

	async end(): Promise<void> {
		await this.#holdfast.close();
		for (const kernel of this.#kernels) kernel.unmount();
	}

	get #known(): Known {
		return {
			model: this.#model,
			firstObjects: this.#firstObjects,
			failedRenames: this.#failedRenames,
			note: (why) => count(this.#tally?.allowed, why),
		};
	}

	/** `mayBeAlone`: holdfast may do what the kernel cannot; the trees are not compared any more then. */
	async #perform(operation: Operation, mayBeAlone: boolean): Promise<void> {
		// the overlay's own prefix is another one on each side there
		if (this.#rig.name === "ordinary" && "name" in operation && operation.name === "trusted.overlay.") return;
		const theirs = this.#isAlone ? null : this.#kernel.perform(operation);
		if (theirs === "EXDEV" && this.#rig.usesUserXattrs && !mayBeAlone) {
			count(this.#tally?.results, `${operation.kind} EXDEV (not asked of holdfast)`);
			return;
		}
		const ours = await this.#holdfast.perform(operation, this.#model);
		count(this.#tally?.results, `${operation.kind} ${ours.result.split(" ")[0]}`);
		if (theirs !== null && theirs !== ours.result) {
			const allowed = isAllowedResult({ rig: this.#rig.name, operation, kernel: theirs, holdfast: ours.result });
			if (allowed === null) {
				const short = (result: string) => (result.startsWith("ok") ? "ok" : result);
				const signature = `${operation.kind}: kernel ${short(theirs)}, holdfast ${short(ours.result)}`;
				throw new Difference(signature, `the kernel says ${theirs}, holdfast ${ours.result}`);
			}
			count(this.#tally?.allowed, allowed);
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
			else if (!existing.handle?.equals(ours.made.handle)) {
				throw new Difference("handle changed", `${operation.kind} answers another handle than the existing object has`);
			}
		}
		this.#model.apply(operation, made);
	}

	/** Compares both trees, and ours with what handles and model say. */
	async #compare(): Promise<Map<string, ObservedWithHandle>> {
		const place = this.place;
		this.place = `${place}: comparing`;
		const inodes = statfsSync(this.#paths.state).ffree;
		const ours = await this.#holdfast.observe(mistake);
		compareNames(ours, this.#model);
		await compareHandles(this.#holdfast, ours, this.#model);
		if (this.#rig.countsInodes(this.#scenario) && statfsSync(this.#paths.state).ffree !== inodes) {
			throw new Difference("reads write", "reading the tree has made or removed inodes");
		}
		if (!this.#isAlone) compareTrees("kernel", this.#kernel.observe(), ours, this.#known);
		this.place = place;
		return ours;
	}

	async #release(before: Tree): Promise<void> {
		this.place = "release";
		await this.#holdfast.release();
		const kernel = new KernelOverlay(this.#paths, this.#rig.options);
		this.#kernels.push(kernel);
		takeBack(kernel, before, this.#known, (place) => {
			this.place = place;
		});
	}
}

/** The kernel goes on with what holdfast has released, whose tree was `before`. */
export function takeBack(kernel: KernelOverlay, before: Tree, known: Known, at: (place: string) => void): void {
	at("after release");
	kernel.mount();
	compareTrees("released", before, kernel.observe(), known);
	at("the kernel copies up all that was released");
	compareTrees("released", touchAll(kernel, before), kernel.observe(), known);
	at("the kernel removes all that was released");
	removeAll(kernel, before);
	kernel.unmount();
}

/** So many operations at the end may be done by holdfast alone, where the kernel with userxattr cannot. */
const ALONE_OPERATIONS = 5;

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
