import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { cannotMount, type Scratch } from "../support/scratch.ts";
import { plantLowers } from "./plant.ts";
import { FILE_SYSTEMS, type FileSystemName, type MountKind, type PlantStep, type Scenario } from "./scenario.ts";

export const RIG_NAMES = ["one", "several", "userxattr", "portable", "ordinary"] as const;
export type RigName = (typeof RIG_NAMES)[number];

/** Where the layers of one side of a run are. */
export interface LayerPaths {
	readonly lowers: readonly string[];
	readonly upper: string;
	readonly work: string;
	readonly state: string;
	readonly mountPoint: string;
}

const OPTIONS: Readonly<Record<RigName, readonly string[]>> = {
	/** All layers on one ext4. */
	one: ["index=on", "nfs_export=on", "redirect_dir=on"],
	/** Each layer on one of several file systems, as the scenario says. */
	several: ["index=on", "nfs_export=on", "redirect_dir=on", "xino=on"],
	/** As "one", with `user.overlay.` for the overlay's own xattrs: the kernel follows and makes no redirects then. */
	userxattr: ["userxattr", "index=on", "nfs_export=on"],
	/** As "several", holdfast with portable handles. */
	portable: ["index=on", "nfs_export=on", "redirect_dir=on", "xino=on"],
	/** As "one", holdfast as an ordinary user keeps an upper: portable handles, `user.overlay.`, rights in an xattr, whiteouts as files. */
	ordinary: ["index=on", "nfs_export=on", "redirect_dir=on"],
};

/** What can have no user xattrs: neither side can copy that up where these hold the origin, and the kernel cannot mount after it has tried. */
const BARE_KINDS: ReadonlySet<PlantStep["kind"]> = new Set(["symlink", "fifo", "device"]);

/** How holdfast keeps the upper of a rig. */
export type HoldfastOptions = Pick<OpenOptions, "userXattrs" | "handles" | "linkNames" | "fakeRoot">;

/** File systems for runs, and how the overlays on them are set up. */
export class Rig {
	readonly name: RigName;
	/** Of the kernel's mount. */
	readonly options: readonly string[];
	readonly usesUserXattrs: boolean;
	/** Ids of lower objects are paths: names elsewhere count for nothing, and the kernel cannot go on with the upper. */
	readonly isPortable: boolean;
	readonly holdfast: HoldfastOptions;
	readonly #tops = new Map<FileSystemName, string>();

	constructor(made: Scratch, name: RigName) {
		this.name = name;
		this.options = OPTIONS[name];
		this.usesUserXattrs = name === "userxattr";
		this.isPortable = name === "portable" || name === "ordinary";
		this.holdfast = this.isPortable
			? { handles: "portable", linkNames: true, fakeRoot: name === "ordinary" }
			: { userXattrs: this.usesUserXattrs };
		for (const fileSystem of this.#isOfSeveral ? FILE_SYSTEMS : FILE_SYSTEMS.slice(0, 1)) {
			const kind = fileSystem === "ext4-2" ? "ext4" : fileSystem;
			if (cannotMount(kind) !== false) continue;
			const top = made.mount(kind, `differential-${name}-${fileSystem}`, 512);
			// nothing here is about what a power failure leaves
			execFileSync("mount", ["-o", kind === "ext4" ? "remount,noatime,nobarrier" : "remount,noatime", top]);
			this.#tops.set(fileSystem, top);
		}
	}

	/**
	 * Of a mount of some kind, for runs that hand the layers to and fro. Once a mount had metacopy, which nfs_export and redirect_dir=off
	 * exclude, all later ones must have it: without it the kernel shows nothing of files whose data is in a lower.
	 */
	mountOptions(kind: MountKind, hasMetacopies: boolean): readonly string[] {
		const isMeta = hasMetacopies || this.leavesMetacopies(kind);
		const redirects = this.usesUserXattrs ? "userxattr" : `redirect_dir=${kind === "without redirects" && !isMeta ? "off" : "on"}`;
		const options = [redirects, `index=${kind.startsWith("without index") ? "off" : "on"}`];
		options.push(`nfs_export=${kind === "as always" && !isMeta ? "on" : "off"}`);
		if (isMeta) options.push("metacopy=on");
		if (this.name === "several") options.push("xino=on");
		return options;
	}

	/** Whether files whose data is in a lower may be left by a mount of this kind. */
	leavesMetacopies(kind: MountKind): boolean {
		return kind.endsWith("metacopy") && !this.usesUserXattrs;
	}

	/** Makes the lowers of a scenario for one side, and names all the rest. Sides of the same name and scenario share nothing with others. */
	layers(run: string, side: string, scenario: Scenario): LayerPaths {
		const folder = (layer: number) => {
			const path = join(this.#top(scenario, layer), run, side);
			mkdirSync(path, { recursive: true });
			return path;
		};
		const top = folder(0);
		const made = (name: string) => {
			mkdirSync(join(top, name));
			return join(top, name);
		};
		return {
			lowers: plantLowers(
				scenario.lowers.map((_, i) => folder(i + 1)),
				scenario.lowers.map((steps) => steps.filter((step) => this.#mayPlant(step))),
				this.usesUserXattrs || (this.name === "ordinary" && side === "holdfast") ? "user.overlay." : "trusted.overlay.",
			),
			upper: join(top, "upper"),
			work: join(top, "work"),
			state: made("state"),
			mountPoint: made("merged"),
		};
	}

	#mayPlant(step: PlantStep): boolean {
		if (this.usesUserXattrs) return !BARE_KINDS.has(step.kind);
		if (!this.isPortable) return true;
		if (step.kind === "outside" || (step.kind === "link" && step.isFromBelow)) return false;
		// whose names are those of the prefix of the side; an ordinary user has no capabilities
		return this.name !== "ordinary" || !("mark" in step) || (step.mark !== "escaped" && step.mark !== "capability");
	}

	get #isOfSeveral(): boolean {
		return this.name === "several" || this.name === "portable";
	}

	/** Whether the file system of upper tells exactly how many inodes are free: xfs frees them later. */
	countsInodes(scenario: Scenario): boolean {
		return this.#fileSystem(scenario, 0) !== "xfs";
	}

	remove(run: string): void {
		for (const top of this.#tops.values()) rmSync(join(top, run), { recursive: true, force: true });
	}

	/** Layer 0 is upper. */
	#fileSystem(scenario: Scenario, layer: number): FileSystemName {
		const wanted = this.#isOfSeveral ? scenario.fileSystems[layer] : FILE_SYSTEMS[0];
		return this.#tops.has(wanted) ? wanted : FILE_SYSTEMS[0];
	}

	#top(scenario: Scenario, layer: number): string {
		return this.#tops.get(this.#fileSystem(scenario, layer)) as string;
	}
}
