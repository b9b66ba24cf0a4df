// The server of a FUSE mount, as its keeper knows it.

import { realpathSync } from "node:fs";
import { basename, dirname } from "node:path";
import { openNamedDirectory, realPathOf } from "../linux/covered-directories.ts";
import { coverEntry } from "../linux/covered-entry.ts";
import { close, O, openPath } from "../linux/open.ts";
import { fstat, Stat } from "../linux/stat.ts";
import { KeeperLink } from "../mounting/keeper-link.ts";
import { pointPath } from "../mounting/mount-point.ts";
import type { OpenServer } from "../server/serve-exports.ts";
import type { ClaimedSet } from "./change-sets.ts";
import type { LayerPaths } from "./layer-options.ts";

export class MountServer {
	/** The mount has ended: the server has nothing left to do. */
	readonly ended: Promise<void>;
	readonly #link: KeeperLink;
	readonly #point: string;

	/** `keeper`: the descriptor of its socket. */
	constructor(keeper: number, point: string) {
		this.#point = pointPath(point);
		this.#link = new KeeperLink(keeper, this.#point);
		this.ended = this.#link.ended.then(() => this.#link.endMount());
	}

	/** Has the mount made, now that the layers are open, and serves it. False: there is none, and the user knows why. */
	async start(
		served: OpenServer,
		{ name, paths, claimed }: { readonly name: string; readonly paths: LayerPaths; readonly claimed: ClaimedSet | null },
	): Promise<boolean> {
		const [{ opened }] = served.exports;
		coverPoint(this.#point);
		const device = await this.#link.device({
			source: name,
			layers: [...paths.lowers, ...paths.dataLowers].map((path) => ({ path, real: realPathOf(path) })),
			own: [opened.upper, opened.work, opened.folder].filter((path) => path !== null).map((path) => realpathSync(path)),
			set: claimed === null ? null : { name: claimed.set.name, folder: claimed.set.folder },
		});
		if (device === null) return false;
		const session = served.startFuse(device);
		void session.ended.then(() => this.stop());
		return true;
	}

	/** There will be no server. */
	close(): void {
		this.#link.close();
	}

	/** The mount is served from now on. */
	ready(): void {
		this.#link.ready();
	}

	/** Ends the mount; `ended` follows. */
	stop(): void {
		this.#link.stop();
	}
}

/**
 * The mountpoint may lie in a layer. Root has private mounts of its layers, in which nothing is covered; who has none goes on by a descriptor that is older than
 * the mount, the keeper's in a later server.
 */
function coverPoint(point: string): void {
	if (process.geteuid?.() === 0) return;
	const fd = openNamedDirectory(point, O.path | O.directory);
	const above = openPath(dirname(point), O.path | O.directory);
	const parent = new Stat();
	// what cannot be opened, no layer leads to
	if (fd >= 0 && above >= 0 && fstat(above, parent) === 0) coverEntry(parent, Buffer.from(basename(point)), fd);
	if (above >= 0) close(above);
}
