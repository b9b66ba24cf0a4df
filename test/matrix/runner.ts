import { createHash } from "node:crypto";
import { Inconclusive } from "../crash/power-disk.ts";
import { generator } from "../support/random.ts";
import { Cell } from "./cell.ts";
import type { CellOfMatrix } from "./cells.ts";
import { Ground } from "./ground.ts";
import { OrdinaryProcess } from "./ordinary-process.ts";
import { type Place, RootPlace } from "./place.ts";
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

/** Runs cells one after another, on file systems of its own. Those of an ordinary user run in a process of that user. */
export class Runner {
	readonly #place: Place;
	readonly #grounds = new Map<Stack, Ground>();
	readonly #stride: number;
	readonly #seed: number;
	#ordinary: OrdinaryProcess | null = null;

	/** `stride`: of the crash points of a cell one of so many, chosen by the seed. */
	constructor(stride: number, seed: number, place: Place = new RootPlace()) {
		this.#place = place;
		this.#stride = stride;
		this.#seed = seed;
	}

	/** A cell that can exist. */
	async run({ name, kind, event, fault, stack }: CellOfMatrix): Promise<CellResult> {
		if (stack.keeping === "ordinary" && process.getuid?.() === 0) return this.#ofOrdinaryUser(name);
		const begun = performance.now();
		const crashPoints: string[] = [];
		let kills = 0;
		let failure: string | null = null;
		let isInconclusive = false;
		try {
			const ground = this.#grounds.get(stack) ?? (await Ground.make(this.#place, stack));
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

	async #ofOrdinaryUser(name: string): Promise<CellResult> {
		this.#ordinary ??= new OrdinaryProcess(this.#stride, this.#seed);
		try {
			return await this.#ordinary.run(name);
		} catch (error) {
			await this.#ordinary.close();
			this.#ordinary = null;
			return { name, failure: String(error), isInconclusive: false, crashPoints: [], kills: 0, milliseconds: 0 };
		}
	}

	/** Nobody knows what a failure has left on the disks. */
	async #startAnew(): Promise<void> {
		this.#grounds.clear();
		await this.#place.startAnew();
	}

	/** Stacks whose lowers are not what they were, byte for byte; then everything is removed. */
	async end(): Promise<string[]> {
		const changed = [...this.#grounds.values()].filter((ground) => ground.changed(true) !== null).map(({ stack }) => stack.name);
		changed.push(...((await this.#ordinary?.end()) ?? []));
		this.#ordinary = null;
		this.#grounds.clear();
		await this.#place.close();
		return changed;
	}
}
