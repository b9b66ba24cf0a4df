import { createHash } from "node:crypto";
import { generator } from "../crash/actor.ts";
import { Inconclusive } from "../crash/power-disk.ts";
import { cannotCompare } from "../differential/campaign.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, Scratch } from "../support/scratch.ts";
import { Cell } from "./cell.ts";
import type { CellOfMatrix } from "./cells.ts";
import { Disks, Ground } from "./ground.ts";
import type { Stack } from "./stacks.ts";

export interface CellResult {
	readonly name: string;
	/** Null when the contract holds. */
	readonly failure: string | null;
	/** Somebody else on this host has made it fail: it has to be run again. */
	readonly isInconclusive: boolean;
	/** Each "number call" before which the world was stopped. */
	readonly crashPoints: readonly string[];
	/** Processes killed by SIGKILL. */
	readonly kills: number;
	readonly milliseconds: number;
}

/** Runs cells one after another, on file systems of its own. */
export class Runner {
	#made = new Scratch();
	#disks = new Disks(this.#made);
	readonly #grounds = new Map<Stack, Ground>();
	readonly #stride: number;
	readonly #seed: number;

	/** `stride`: of the crash points of a cell one of so many, chosen by the seed. */
	constructor(stride: number, seed: number) {
		this.#stride = stride;
		this.#seed = seed;
	}

	/** A cell that can exist. */
	async run({ name, kind, event, fault, stack }: CellOfMatrix): Promise<CellResult> {
		const begun = performance.now();
		const crashPoints: string[] = [];
		let kills = 0;
		let failure: string | null = null;
		let isInconclusive = false;
		try {
			const ground = this.#grounds.get(stack) ?? new Ground(this.#disks, stack);
			this.#grounds.set(stack, ground);
			await fault.run({
				async begin(options = {}) {
					const cell = new Cell(ground, kind, event, options);
					await cell.begin();
					return cell;
				},
				stride: this.#stride,
				random: generator(createHash("sha256").update(`${this.#seed} ${name}`).digest().readUInt32LE(0)),
				killed: () => kills++,
				crashed: (number, call) => crashPoints.push(`${number} ${call}`),
			});
			failure = ground.changed(false);
		} catch (error) {
			isInconclusive = error instanceof Inconclusive;
			failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
			if (error instanceof Error && error.cause instanceof Error) failure += `\ncaused by ${error.cause.stack}`;
		}
		if (failure !== null) await this.#startAnew();
		return { name, failure, isInconclusive, crashPoints, kills, milliseconds: performance.now() - begun };
	}

	/** Nobody knows what a failure has left on the disks. */
	async #startAnew(): Promise<void> {
		this.#grounds.clear();
		await this.#made.close();
		this.#made = new Scratch();
		this.#disks = new Disks(this.#made);
	}

	/** Stacks whose lowers are not what they were, byte for byte; then everything is removed. */
	async end(): Promise<string[]> {
		const changed = [...this.#grounds.values()].filter((ground) => ground.changed(true) !== null).map(({ stack }) => stack.name);
		this.#grounds.clear();
		await this.#made.close();
		return changed;
	}
}

/** Why nothing of the matrix can run here; false when it can. */
export function cannotRun(): string | false {
	return needs("root") || cannotMount("ext4") || cannotMount("xfs") || cannotMount("btrfs") || cannotCompare();
}
