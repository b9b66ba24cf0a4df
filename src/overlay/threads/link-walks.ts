// Walks lowers for names of one file beside the service, when the first file of several names is met.

import type { Layer } from "../../layer/layer.ts";
import { type LinkNames, openLinkNames } from "../../layer/link-names.ts";
import { PortableLower } from "../../layer/portable-lower.ts";
import { OverlayError } from "../../vfs/errors.ts";
import type { LinksResult } from "./find-links.ts";
import type { Patience } from "./patience.ts";
import { awaitRunning, type Running } from "./running.ts";

/** How long a request waits for a walk before its client is told to come again. */
const WAIT_MS = 5000;
/** How often somebody is told how far a walk is. */
const TELL_MS = 10_000;
/** Shorter ones are not spoken of. */
const QUIET_MS = 1000;
/** A walk that has failed is not begun again before. */
const AGAIN_MS = 10_000;

/** How far a walk through a lower is; where it has ended `files` is the number of files of several names. */
export interface LinkWalk {
	readonly lower: string;
	readonly directories: number;
	readonly files: number | null;
}

/**
 * Has the walk made in a thread: who asks for a file of several names waits for it, and nobody else. `folderOf`: where the names are kept.
 */
export function walkLinksElsewhere(
	patience: Patience,
	lowers: readonly Layer[],
	folderOf: (lower: Layer) => string,
	tell: (walk: LinkWalk) => void,
): void {
	for (const lower of lowers) {
		if (!(lower.handles instanceof PortableLower) || lower.handles.findLinks === null) continue;
		const walk = new Walk(patience, lower, folderOf(lower), tell);
		lower.handles.findLinks = () => walk.names;
	}
}

class Walk {
	readonly #patience: Patience;
	readonly #lower: Layer;
	readonly #folder: string;
	readonly #tell: (walk: LinkWalk) => void;
	#running: Running | null = null;
	#found: LinkNames | null = null;
	#failure: { readonly message: string; readonly until: number } | null = null;

	constructor(patience: Patience, lower: Layer, folder: string, tell: (walk: LinkWalk) => void) {
		this.#patience = patience;
		this.#lower = lower;
		this.#folder = folder;
		this.#tell = tell;
	}

	/** Pending, and after a while OverlayError "tryagain", until it is done. */
	get names(): LinkNames {
		if (this.#found !== null) return this.#found;
		const now = performance.now();
		if (this.#running === null && this.#failure !== null && this.#failure.until > now) throw new OverlayError("io", this.#failure.message);
		this.#running ??= { ready: this.#run(), begun: now };
		return awaitRunning(this.#running, WAIT_MS, "Names of one file are being looked for");
	}

	async #run(): Promise<void> {
		const { root, path } = this.#lower;
		const seen = new Int32Array(new SharedArrayBuffer(4));
		const tell = (files: number | null) => this.#tell({ lower: path, directories: Atomics.load(seen, 0), files });
		const begun = performance.now();
		const timer = setInterval(() => tell(null), TELL_MS).unref();
		try {
			const result = (await this.#patience
				.threads(this.#lower)
				.run({ kind: "links", root, path, folder: this.#folder, seen })) as LinksResult;
			if ("failure" in result) throw new Error(result.failure);
			this.#found = openLinkNames(this.#folder, result.links);
			if (performance.now() - begun >= QUIET_MS) tell(result.links.files);
		} catch (error) {
			this.#failure = { message: (error as Error).message, until: performance.now() + AGAIN_MS };
		} finally {
			clearInterval(timer);
			this.#running = null;
		}
	}
}
