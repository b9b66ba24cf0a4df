import { setUmask } from "../../src/linux/file-system.ts";
import { isAllowedResult } from "./allowed-differences.ts";
import { compareHandles, compareNames, compareTrees, Difference, type Known, mistake } from "./compare.ts";
import { HoldfastOverlay, type ObservedWithHandle } from "./holdfast-overlay.ts";
import { KernelOverlay } from "./kernel-overlay.ts";
import { Model, type ModelObject } from "./model.ts";
import type { Observed, Tree } from "./observed.ts";
import type { LayerPaths, Rig } from "./rig.ts";
import { asDifference, compareLowers, count, dressUpper, fingerprints, type Tally, takeBack } from "./run-scenario.ts";
import { isOn, type MountKind, type Operation, type Scenario, showOperation } from "./scenario.ts";

/**
 * Runs a scenario on one set of layers that the kernel and holdfast work on in turn, the kernel first, with all kinds of mounts. Beside
 * it another kernel overlay does the same throughout, as the oracle, for as long as nothing was done that depends on the kind of mount.
 */
export async function runAlternating(rig: Rig, name: string, scenario: Scenario, tally?: Tally): Promise<void> {
	setUmask(0);
	const run = new AlternatingRun(rig, name, scenario, tally);
	try {
		await run.go();
	} catch (error) {
		throw asDifference(error, run.place);
	} finally {
		await run.end();
		rig.remove(name);
	}
}

class AlternatingRun {
	place = "start";
	readonly #rig: Rig;
	readonly #scenario: Scenario;
	readonly #tally: Tally | undefined;
	readonly #paths: LayerPaths;
	readonly #holdfast: HoldfastOverlay;
	readonly #kernels: KernelOverlay[] = [];
	readonly #model = new Model();
	readonly #failedRenames = new Set<ModelObject | null>();
	/** Mounted on the layers now; null while holdfast serves them. */
	#holder: KernelOverlay | null;
	#oracle: KernelOverlay | null;
	readonly #lowerObjects = new Map<ModelObject, Observed>();
	/** Paths that they had then. */
	readonly #lowerNames = new Map<ModelObject, number>();
	#firstObjects = 0;
	#wasServed = false;
	#hasMetacopies = false;
	/** The kernel has worked without index since holdfast served last: it may have made several objects of one. */
	#wasUnindexed = false;

	constructor(rig: Rig, name: string, scenario: Scenario, tally: Tally | undefined) {
		this.#rig = rig;
		this.#scenario = scenario;
		this.#tally = tally;
		this.#paths = rig.layers(name, "shared", scenario);
		dressUpper(this.#paths);
		const oraclePaths = rig.layers(name, "oracle", scenario);
		dressUpper(oraclePaths);
		this.#oracle = this.#kernel(oraclePaths, rig.options);
		this.#holder = this.#kernel(this.#paths, rig.mountOptions("as always", false));
		this.#holdfast = new HoldfastOverlay(this.#paths, scenario, rig.holdfast);
	}

	#kernel(paths: LayerPaths, options: readonly string[]): KernelOverlay {
		const kernel = new KernelOverlay(paths, options);
		this.#kernels.push(kernel);
		return kernel;
	}

	async go(): Promise<void> {
		const { operations, checksEach } = this.#scenario;
		const lowersBefore = fingerprints(this.#paths.lowers);
		this.#oracle?.mount();
		this.#holder?.mount();
		this.#takeDown((this.#holder as KernelOverlay).observe());
		for (const [i, operation] of operations.entries()) {
			this.place = `operation ${i + 1}: ${showOperation(operation)}`;
			await this.#step(operation);
			if (checksEach && this.#holder === null) await this.#compare();
		}
		this.place = "end";
		const last = await this.#toHoldfast();
		await this.#holdfast.close();
		compareLowers(this.#paths.lowers, lowersBefore);
		this.place = "release";
		await this.#holdfast.release();
		takeBack(this.#kernel(this.#paths, this.#rig.mountOptions("as always", this.#hasMetacopies)), last, this.#known, (place) => {
			this.place = place;
		});
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
			wasPartOfLower: (object) => [...(this.#split.get(object) ?? [])].some((other) => other.serial < this.#firstObjects),
			before: (object) => {
				const parts = [object, ...(this.#split.get(object) ?? [])];
				return parts.map((part) => this.#lowerObjects.get(part)).find((seen) => seen !== undefined);
			},
			failedRenames: this.#failedRenames,
			note: (why) => count(this.#tally?.allowed, why),
		};
	}

	/** Which objects there are at first, from a mount under which nothing has been done yet. */
	#takeDown(tree: Tree): void {
		const objects = new Map<string, ModelObject>();
		for (const [path, observed] of tree) {
			if (path === "") continue;
			const { type, nlink, object: key } = observed;
			const object = objects.get(key) ?? this.#model.unseen(type, type === "dir" ? 1 : nlink);
			objects.set(key, object);
			this.#lowerObjects.set(object, observed);
			this.#lowerNames.set(object, (this.#lowerNames.get(object) ?? 0) + 1);
			this.#model.enter(path.split("/"), object);
		}
		this.#firstObjects = this.#model.count;
	}

	async #step(operation: Operation): Promise<void> {
		if (operation.kind === "toHoldfast") {
			await this.#toHoldfast();
			return;
		}
		if (operation.kind === "toKernel") {
			await this.#toKernel(operation.mount);
			return;
		}
		// an adoption takes it for a mark, whoever has made it
		if (this.#rig.usesUserXattrs && "name" in operation && operation.name === "trusted.overlay.opaque") {
			count(this.#tally?.results, `${operation.kind} (a mark of the other kind, not asked of either)`);
			return;
		}
		const kernel = this.#holder;
		if (kernel === null) {
			if (this.#needsRedirect(operation)) count(this.#tally?.results, `${operation.kind} (a redirect, not asked of holdfast)`);
			else await this.#byHoldfast(operation);
			return;
		}
		if (this.#movesOntoItself(operation)) {
			count(this.#tally?.results, `${operation.kind} (between names of one file, not asked of the kernel without index)`);
			return;
		}
		const result = kernel.perform(operation);
		count(this.#tally?.results, `${operation.kind} ${result.split(" ")[0]}`);
		this.#compareResults(operation, result, "the kernel on the shared layers");
		if (!result.startsWith("ok") || !isOn(operation)) {
			this.#noteFailure(operation, result);
			return;
		}
		const isNew = this.#model.at(operation.path) === null;
		const type = MADE_TYPES[operation.kind] ?? (operation.kind === "device" ? operation.device.type : null);
		this.#model.apply(operation, type !== null && isNew ? this.#model.unseen(type, 1) : null);
	}

	/** To the model, and to holdfast, both names are one object, so that nothing happens; without an index the kernel has them as two. */
	#movesOntoItself(operation: Operation): boolean {
		if (!this.#wasUnindexed || (operation.kind !== "rename" && operation.kind !== "exchange")) return false;
		const object = this.#model.at(operation.path);
		return object !== null && object.type !== "dir" && object === this.#model.at(operation.to);
	}

	/** Which the kernel does not follow with userxattr, when it gets the layers back. */
	#needsRedirect(operation: Operation): boolean {
		if (!this.#rig.usesUserXattrs || (operation.kind !== "rename" && operation.kind !== "exchange")) return false;
		return [operation.path, operation.to].some((path) => {
			const object = this.#model.at(path);
			return object !== null && object.type === "dir" && object.serial < this.#firstObjects;
		});
	}

	async #byHoldfast(operation: Operation): Promise<void> {
		const { result, made } = await this.#holdfast.perform(operation, this.#model);
		count(this.#tally?.results, `${operation.kind} ${result.split(" ")[0]}`);
		this.#compareResults(operation, result, "holdfast");
		if (!result.startsWith("ok")) {
			this.#noteFailure(operation, result);
			return;
		}
		let object: ModelObject | null = null;
		if (made !== null && isOn(operation)) {
			const existing = this.#model.at(operation.path);
			if (existing === null) object = this.#model.add(made.type, made.handle, made.fileid, 1);
			else if (!existing.handle?.equals(made.handle)) throw new Difference("handle changed", `${operation.kind} answers another handle`);
		}
		this.#model.apply(operation, object);
	}

	#noteFailure(operation: Operation, result: string): void {
		if (operation.kind !== "rename" || result !== "ENOTEMPTY") return;
		for (const path of [operation.path, operation.to]) this.#failedRenames.add(this.#model.at(path.slice(0, -1)));
	}

	/** The oracle does it too, and is left behind where the result depends on the kind of mount. */
	#compareResults(operation: Operation, result: string, who: string): void {
		if (this.#oracle === null) return;
		const theirs = this.#oracle.perform(operation);
		if (theirs === result) return;
		const isKernels = this.#holder !== null;
		const allowed = isKernels ? "" : isAllowedResult({ rig: this.#rig.name, operation, kernel: theirs, holdfast: result });
		const short = (text: string) => (text.startsWith("ok") ? "ok" : text);
		if (allowed === null) {
			throw new Difference(
				`${operation.kind}: kernel ${short(theirs)}, ${who} ${short(result)}`,
				`the kernel says ${theirs}, ${who} ${result}`,
			);
		}
		if (short(theirs) === "ok" || short(result) === "ok") this.#dropOracle();
	}

	#dropOracle(): void {
		this.#oracle?.unmount();
		this.#oracle = null;
	}

	async #toKernel(mount: MountKind): Promise<void> {
		count(this.#tally?.results, `kernel, ${mount}`);
		let before: Tree | null = null;
		if (this.#holder === null) {
			before = await this.#compare();
			await this.#holdfast.close();
			await this.#holdfast.release();
		}
		this.#holder?.unmount();
		this.#hasMetacopies ||= this.#rig.leavesMetacopies(mount);
		const kernel = this.#kernel(this.#paths, this.#rig.mountOptions(mount, this.#hasMetacopies));
		kernel.mount();
		this.#holder = kernel;
		if (!mount.startsWith("without index")) {
			if (before !== null) compareTrees("released", before, kernel.observe(), this.#known);
			return;
		}
		this.#wasUnindexed = true;
		this.#dropOracle();
	}

	/** Takes the layers over, where the kernel has them; the tree is the same then. */
	async #toHoldfast(): Promise<Map<string, ObservedWithHandle>> {
		const kernel = this.#holder;
		if (kernel === null) return this.#compare();
		count(this.#tally?.results, "holdfast takes over");
		const before = kernel.observe();
		kernel.unmount();
		this.#holder = null;
		if (!this.#wasServed) this.#complain(await this.#holdfast.adopt());
		this.#wasServed = true;
		this.#holdfast.open();
		this.#complain(this.#holdfast.problems);
		const tree = await this.#holdfast.observe(mistake);
		if (this.#wasUnindexed) await this.#recognise(tree);
		else this.#learn(tree);
		compareTrees("adopted", before, tree, { ...this.#known, isUnindexed: this.#wasUnindexed });
		this.#wasUnindexed = false;
		return this.#compare();
	}

	#complain(problems: readonly string[]): void {
		if (problems.length > 0) throw new Difference("adoption: problems", `the adoption reports ${problems.join("; ")}`);
	}

	/** What the kernel has made gets its handle; all else must have the one that it always had, which `#compare` sees. */
	#learn(tree: ReadonlyMap<string, ObservedWithHandle>): void {
		for (const [path, object] of this.#model.paths()) {
			const observed = tree.get(path);
			if (observed === undefined || object.handle !== null) continue;
			this.#model.learn(object, Buffer.from(observed.handle, "hex"), observed.object);
		}
	}

	/**
	 * Without index the kernel makes an object of its own of each name of a lower file that it copies up. So a path may show a new object
	 * now; never another one that was known before. A handle whose object no path shows any more is stale, unless it has names elsewhere.
	 */
	async #recognise(tree: ReadonlyMap<string, ObservedWithHandle>): Promise<void> {
		const hadPath = new Set(this.#model.paths().values());
		const shown = new Set<ModelObject>();
		for (const [path, before] of this.#model.paths()) {
			const observed = tree.get(path);
			if (observed === undefined) continue;
			const known = this.#model.objects.get(observed.handle);
			let object = known;
			if (object === undefined && before.handle === null) {
				object = before;
				this.#model.learn(object, Buffer.from(observed.handle, "hex"), observed.object);
			} else if (object === undefined) {
				object = this.#model.add(observed.type, Buffer.from(observed.handle, "hex"), observed.object, 1);
			}
			if (object !== before) {
				if (before.serial >= this.#firstObjects || before.type === "dir") {
					throw new Difference("handle changed", `${path} (${before.type} number ${before.serial}, not of a lower) has another handle`);
				}
				if (known !== undefined && !this.#split.get(before)?.has(known)) {
					throw new Difference("handle of another", `${path} has the handle of number ${known.serial}, and was number ${before.serial}`);
				}
				this.#noteSplit(before, object);
				this.#model.enter(path.split("/"), object);
			}
			if (object.type !== "dir") object.links = observed.nlink;
			shown.add(object);
		}
		for (const [handle, object] of this.#model.objects) {
			if (object.links === 0 || shown.has(object)) continue;
			const found = await this.#holdfast.outcome(() => this.#holdfast.observeHandle(Buffer.from(handle, "hex")));
			if (found === "ESTALE") object.links = 0;
			else if (typeof found === "string") throw new Difference(`handle: ${found}`, `the handle of number ${object.serial} says ${found}`);
			else if (hadPath.has(object) && !this.#hasNamesElsewhere(object)) {
				throw new Difference("old data", `number ${object.serial} lost its paths to others, but its handle says ${JSON.stringify(found)}`);
			} else object.links = found.nlink;
		}
	}

	/** It counts names that no path ever showed, so it is not gone with those (H7). */
	#hasNamesElsewhere(object: ModelObject): boolean {
		return [object, ...(this.#split.get(object) ?? [])].some((part) => {
			const before = this.#lowerObjects.get(part);
			return before !== undefined && before.nlink > (this.#lowerNames.get(part) ?? 0);
		});
	}

	/** Objects that were names of one lower file before. */
	readonly #split = new Map<ModelObject, Set<ModelObject>>();

	#noteSplit(one: ModelObject, two: ModelObject): void {
		const all = this.#split.get(one) ?? new Set([one]);
		all.add(two);
		for (const object of all) this.#split.set(object, all);
	}

	/** While holdfast serves: the tree and the handles are as the operations say, and as the oracle's tree. */
	async #compare(): Promise<Map<string, ObservedWithHandle>> {
		const ours = await this.#holdfast.observe(mistake);
		compareNames(ours, this.#model);
		await compareHandles(this.#holdfast, ours, this.#model);
		if (this.#oracle !== null) compareTrees("kernel", this.#oracle.observe(), ours, this.#known);
		return ours;
	}
}

const MADE_TYPES: Readonly<Partial<Record<Operation["kind"], string>>> = {
	create: "reg",
	overwrite: "reg",
	symlink: "lnk",
	fifo: "fifo",
	mkdir: "dir",
};
