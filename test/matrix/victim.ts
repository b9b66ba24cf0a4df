/** A process of its own that serves changes until it is killed by SIGKILL, before its system call of a given number. */

import { writeSync } from "node:fs";
import { interceptChanges } from "../../src/linux/libc.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { inPasses } from "../../src/overlay/operations/until-ready.ts";
import { workInline } from "../differential/inline-offload.ts";
import { keyed, keyOf } from "../in-process/keyed.ts";
import { type Change, perform } from "./change.ts";

/** A change, and what a client knows of the paths in it: handles, or the words for what changes before it have made. */
export interface Errand {
	readonly change: Change;
	readonly xid: number;
	readonly ids: Readonly<Record<string, string>>;
	/** The word for what it makes. */
	readonly makes: string;
}

export interface Order {
	readonly layers: OpenOptions;
	readonly errands: readonly Errand[];
	/** 0: before the first call that changes the disk. */
	readonly calls: number;
}

/** Each answer is a line: the handle of what was made, or nothing. */
if (process.argv[2] !== undefined) await run(JSON.parse(process.argv[2]) as Order);

async function run({ layers, errands, calls }: Order): Promise<void> {
	const overlay = workInline(openOverlay(layers).overlay);
	const made = new Map<string, string>();
	let seen = 0;
	interceptChanges(() => {
		if (seen++ === calls) process.kill(process.pid, "SIGKILL");
	});
	for (const { change, xid, ids, makes } of errands) {
		const handle = await inPasses(overlay, () => {
			const object = perform(keyed(overlay, keyOf("client", xid)), change, (path) =>
				overlay.decode(Buffer.from(made.get(ids[path]) ?? ids[path], "hex")),
			);
			return object?.handle.toString("hex") ?? "";
		});
		made.set(makes, handle);
		writeSync(1, `${handle}\n`);
	}
	process.kill(process.pid, "SIGKILL");
}
