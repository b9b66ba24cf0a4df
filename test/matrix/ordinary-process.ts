import { type ChildProcess, spawn } from "node:child_process";
import { chownSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Duplex } from "node:stream";
import { Inconclusive } from "../crash/power-disk.ts";
import { Scratch } from "../support/scratch.ts";
import { diesWithParent, NOBODY, ordinaryPath } from "../support/server-process.ts";
import type { CopyName } from "./copies.ts";
import { RootPlace } from "./place.ts";
import type { CellResult } from "./runner.ts";
import { type DiskKind, PORTABLE_STACKS } from "./stacks.ts";
import type { Asked, Told } from "./worker.ts";

/**
 * What the process of an ordinary user asks root for, one line of JSON each: the name of a function and what it is given. It waits for the
 * answer, which is a line too.
 */
export interface Answer {
	readonly value?: unknown;
	readonly error?: string;
	/** Somebody else on this host is to blame. */
	readonly isInconclusive?: boolean;
}

/** Where the process has the other end of the line. */
export const LINE_FD = 3;

/** A process of the user nobody that runs cells, and the file systems that root makes for it. */
export class OrdinaryProcess {
	readonly #program = new Scratch();
	readonly #place = new RootPlace();
	readonly #process: ChildProcess;
	#wait: { readonly resolve: (message: unknown) => void; readonly reject: (error: Error) => void } | null = null;

	constructor(stride: number, seed: number) {
		const worker = ordinaryPath(this.#program, "dist/test/matrix/worker.js", ["dist/test"]);
		this.#process = spawn(...diesWithParent([process.execPath, worker, String(stride), String(seed)]), {
			stdio: ["ignore", "inherit", "inherit", "pipe", "ipc"],
			cwd: "/",
			uid: NOBODY,
			gid: NOBODY,
		});
		const line = this.#process.stdio[LINE_FD] as Duplex;
		createInterface({ input: line }).on("line", (request) => {
			void this.#answer(request).then((answer) => line.write(`${JSON.stringify(answer)}\n`));
		});
		line.on("error", () => {});
		this.#process.on("message", (message) => this.#take()?.resolve(message));
		this.#process.on("close", (code, signal) => this.#take()?.reject(new Error(`the process of nobody ended with ${signal ?? code}`)));
	}

	/** One cell. */
	async run(name: string): Promise<CellResult> {
		return ((await this.#ask(name)) as Told).result as CellResult;
	}

	/** Stacks whose lowers have changed. */
	async end(): Promise<string[]> {
		const { changed } = (await this.#ask(null)) as Told;
		await this.close();
		return changed as string[];
	}

	async close(): Promise<void> {
		this.#process.kill("SIGKILL");
		await this.#place.close();
		await this.#program.close();
	}

	#ask(cell: string | null): Promise<unknown> {
		return new Promise((resolve, reject) => {
			this.#wait = { resolve, reject };
			this.#process.send({ cell } satisfies Asked, (error) => {
				if (error !== null) this.#take()?.reject(error);
			});
		});
	}

	#take() {
		const wait = this.#wait;
		this.#wait = null;
		return wait;
	}

	async #answer(request: string): Promise<Answer> {
		try {
			const [name, ...given] = JSON.parse(request) as [keyof Services, ...never[]];
			const service = servicesOf(this.#place)[name] as (...given: never[]) => unknown;
			return { value: (await service(...given)) ?? null };
		} catch (error) {
			return {
				error: error instanceof Error ? (error.stack ?? error.message) : String(error),
				isInconclusive: error instanceof Inconclusive,
			};
		}
	}
}

/** What the functions give back is JSON. */
export function servicesOf(place: RootPlace) {
	return {
		disk: (kind: DiskKind) => place.disk(kind).path,
		cut: (kind: DiskKind, isCommitted: boolean) => place.disk(kind).cut(isCommitted),
		/** Where it is then. */
		mountAgain(kind: DiskKind, how: "restore" | "move" | "moveBack") {
			const disk = place.disk(kind);
			disk[how]();
			return disk.path;
		},
		imagesOf(name: string) {
			const stack = PORTABLE_STACKS.find((one) => one.name === name);
			if (stack === undefined) throw new Error(`there is no stack ${name}`);
			return place.imagesOf(stack);
		},
		folder() {
			const path = place.folder();
			chownSync(path, NOBODY, NOBODY);
			return path;
		},
		showByFuse: (folder: string) => place.showByFuse(folder),
		copyAsRoot: (name: CopyName, from: string, to: string) => place.copyAsRoot(name, from, to),
		remove: (path: string) => place.remove(path),
		startAnew: () => place.startAnew(),
	} as const;
}

export type Services = ReturnType<typeof servicesOf>;
