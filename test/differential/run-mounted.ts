// A scenario on a mount of holdfast by FUSE and on the kernel's overlayfs, through the same calls.

import { setUmask } from "../../src/linux/file-system.ts";
import { isAllowedResult } from "./allowed-differences.ts";
import { compareTrees, Difference, type Known } from "./compare.ts";
import { KernelOverlay } from "./kernel-overlay.ts";
import { Model, type ModelObject } from "./model.ts";
import { MountedOverlay, MountingServer } from "./mounted-overlay.ts";
import type { Tree } from "./observed.ts";
import type { LayerPaths, Rig } from "./rig.ts";
import { asDifference, compareLowers, count, dressUpper, fingerprints, type Tally } from "./run-scenario.ts";
import { isOn, type Operation, type Scenario, showOperation } from "./scenario.ts";

let server: MountingServer | null = null;

/** As `runScenario`; numbers of inodes take the place of handles. */
export async function runMounted(rig: Rig, name: string, scenario: Scenario, tally?: Tally): Promise<void> {
	setUmask(0);
	server ??= new MountingServer();
	const run = new Run(server, rig, name, scenario, tally);
	try {
		await run.go();
	} catch (error) {
		throw asDifference(error, run.place);
	} finally {
		await run.end();
		rig.remove(name);
	}
}

/** The process that serves the mounts is not needed any more. */
export function endMounted(): void {
	server?.close();
	server = null;
}

class Run {
	place = "start";
	readonly #rig: Rig;
	readonly #scenario: Scenario;
	readonly #tally: Tally | undefined;
	readonly #paths: LayerPaths;
	readonly #kernel: KernelOverlay;
	readonly #holdfast: MountedOverlay;
	readonly #model = new Model();
	readonly #failedRenames = new Set<ModelObject | null>();
	#firstObjects = 0;
	#names = 0;
	#isAlone = false;

	constructor(server: MountingServer, rig: Rig, name: string, scenario: Scenario, tally: Tally | undefined) {
		this.#rig = rig;
		this.#scenario = scenario;
		this.#tally = tally;
		const kernelPaths = rig.layers(name, "kernel", scenario);
		dressUpper(kernelPaths);
		this.#paths = rig.layers(name, "holdfast", scenario);
		this.#kernel = new KernelOverlay(kernelPaths, rig.options);
		this.#holdfast = new MountedOverlay(server, this.#paths, scenario, rig.holdfast);
	}

	async go(): Promise<void> {
		const lowersBefore = fingerprints(this.#paths.lowers);
		this.#kernel.mount();
		await this.#holdfast.mount();
		this.#learn(this.#holdfast.observe());
		this.#compare();
		const { operations, checksEach } = this.#scenario;
		for (const [i, operation] of operations.entries()) {
			this.place = `operation ${i + 1}: ${showOperation(operation)}`;
			if (isOn(operation)) this.#perform(operation, operations.length - i <= ALONE_OPERATIONS);
			else {
				this.#kernel.perform(operation);
				await this.#holdfast.restart();
			}
			if (checksEach || !isOn(operation)) this.#compare();
		}
		this.place = "end";
		this.#compare();
		await this.end();
		compareLowers(this.#paths.lowers, lowersBefore);
	}

	async end(): Promise<void> {
		await this.#holdfast.unmount();
		this.#kernel.unmount();
	}

	/** A handle of the model's, which is none here. */
	#newHandle(): Buffer {
		return Buffer.from(`${this.#names++}`);
	}

	#learn(tree: Tree): void {
		const byNumber = new Map<string, ModelObject>();
		for (const [path, { type, object, nlink }] of tree) {
			if (path === "") {
				this.#model.learn(this.#model.root, this.#newHandle(), object);
				continue;
			}
			const known = byNumber.get(object) ?? this.#model.add(type, this.#newHandle(), object, type === "dir" ? 1 : nlink);
			byNumber.set(object, known);
			this.#model.enter(path.split("/"), known);
		}
		this.#firstObjects = this.#model.count;
	}

	#perform(operation: Exclude<Operation, { kind: "restart" | "toKernel" | "toHoldfast" }>, mayBeAlone: boolean): void {
		if (this.#rig.name === "ordinary" && "name" in operation && operation.name === "trusted.overlay.") return;
		const theirs = this.#isAlone ? null : this.#kernel.perform(operation);
		if (theirs === "EXDEV" && this.#rig.usesUserXattrs && !mayBeAlone) {
			count(this.#tally?.results, `${operation.kind} EXDEV (not asked of holdfast)`);
			return;
		}
		const ours = this.#holdfast.perform(operation);
		count(this.#tally?.results, `${operation.kind} ${ours.split(" ")[0]}`);
		if (theirs !== null && theirs !== ours) {
			const allowed = isAllowedResult({ rig: this.#rig.name, operation, kernel: theirs, holdfast: ours });
			if (allowed === null) {
				const short = (result: string) => (result.startsWith("ok") ? "ok" : result);
				throw new Difference(
					`${operation.kind}: kernel ${short(theirs)}, mount ${short(ours)}`,
					`the kernel says ${theirs}, the mount ${ours}`,
				);
			}
			count(this.#tally?.allowed, allowed);
			this.#isAlone = ours.startsWith("ok");
		}
		if (operation.kind === "rename" && ours === "ENOTEMPTY") {
			for (const path of [operation.path, operation.to]) this.#failedRenames.add(this.#model.at(path.slice(0, -1)));
		}
		if (!ours.startsWith("ok")) return;
		const made = MADE[operation.kind];
		const isNew = made !== undefined && this.#model.at(operation.path) === null;
		// its number is that which the next look at the tree shows
		const object = isNew ? this.#model.unseen(operation.kind === "device" ? operation.device.type : made, 1) : null;
		this.#model.apply(operation, object);
	}

	#compare(): void {
		const place = this.place;
		this.place = `${place}: comparing`;
		const ours = this.#holdfast.observe();
		for (const [path, object] of this.#model.paths()) {
			const observed = ours.get(path);
			if (observed === undefined) throw new Difference("model: name missing", `${path} (${object.type}) must be there`);
			object.fileid ??= observed.object;
			if (observed.object !== object.fileid)
				throw new Difference("number changed", `${path} was ${object.fileid}, and is ${observed.object}`);
		}
		if (!this.#isAlone) compareTrees("kernel", this.#kernel.observe(), ours, this.#known);
		this.place = place;
	}

	get #known(): Known {
		return {
			model: this.#model,
			firstObjects: this.#firstObjects,
			failedRenames: this.#failedRenames,
			note: (why) => count(this.#tally?.allowed, why),
		};
	}
}

/** What operations make, by the names that the model has. */
const MADE: Partial<Record<Operation["kind"], string>> = {
	create: "reg",
	overwrite: "reg",
	symlink: "lnk",
	fifo: "fifo",
	device: "chr",
	mkdir: "dir",
};

/** As in `runScenario`. */
const ALONE_OPERATIONS = 5;
