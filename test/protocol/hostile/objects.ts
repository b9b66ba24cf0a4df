import { join } from "node:path";
import { openOverlay } from "../../../src/overlay/opening/open-overlay.ts";
import type { OpenedOverlay } from "../../../src/overlay/opening/opened-overlay.ts";
import type { Overlay } from "../../../src/overlay/operations/overlay.ts";
import { inPasses } from "../../../src/overlay/operations/until-ready.ts";
import { FileType, type OverlayObject } from "../../../src/vfs/operations.ts";
import { plant } from "../../support/lower-tree.ts";

const ROOT = { uid: 0, gid: 0, gids: [] };
const name = (text: string) => Buffer.from(text);

export interface Export {
	open(purpose?: "serve" | "inspect"): OpenedOverlay;
}

/** Makes two lowers below a folder. */
export function plantLowers(base: string): void {
	plant(join(base, "top"), { "merged/a": "a", file: "lower", link: { link: "file" }, "changed/file": "lower" });
	plant(join(base, "bottom"), { "merged/b": "b", "deep/er/file": "x", fifo: { node: ["p"] } });
}

/** These two with an upper called `upper`. At most four objects are kept in memory. */
export function exportIn(base: string, upper = "upper"): Export {
	return {
		open: (purpose = "serve") =>
			openOverlay({
				lowers: [join(base, "top"), join(base, "bottom")],
				upper: join(base, upper),
				stateFolder: join(base, "state"),
				isSync: false,
				purpose,
				nodesMax: 4,
			}),
	};
}

/** Handles of each kind of object that there is, by what it is. The first time it makes those of the upper. */
export async function handlesOfAllKinds(overlay: Overlay): Promise<Map<string, Buffer>> {
	const walk = (path: string): OverlayObject => {
		let at: OverlayObject = overlay.root;
		for (const part of path.split("/")) {
			const next = overlay.lookup(at, name(part), ROOT);
			if (next === null) throw new Error(`there is no ${path}`);
			at = next;
		}
		return at;
	};
	if (overlay.lookup(overlay.root, name("born"), ROOT) === null) {
		overlay.create(overlay.root, name("born"), ROOT, { mode: "guarded", attributes: {} }).object;
		const directory = overlay.mkdir(overlay.root, name("born directory"), ROOT, {});
		overlay.mknod(directory, name("socket"), ROOT, FileType.sock, 0, 0, {});
		overlay.symlink(directory, name("symlink"), ROOT, name("target"), {});
		await inPasses(overlay, () => overlay.setattr(walk("changed"), ROOT, { mode: 0o700 }));
		await inPasses(overlay, () => overlay.setattr(walk("changed/file"), ROOT, { mode: 0o600 }));
	}
	const handles = new Map([["root", overlay.root.handle]]);
	for (const [what, path] of [
		["lower file", "file"],
		["lower symlink", "link"],
		["lower fifo", "fifo"],
		["lower directory", "deep/er"],
		["lower file deep down", "deep/er/file"],
		["merged directory", "merged"],
		["directory copied up", "changed"],
		["file copied up", "changed/file"],
		["file born in the upper", "born"],
		["directory born in the upper", "born directory"],
		["socket born in the upper", "born directory/socket"],
		["symlink born in the upper", "born directory/symlink"],
	] as const) {
		handles.set(what, Buffer.from(walk(path).handle));
	}
	return handles;
}

/** A file that is made and removed again: its handle is good, and its object gone. */
export function goneHandle(overlay: Overlay): Buffer {
	const handle = Buffer.from(overlay.create(overlay.root, name("short-lived"), ROOT, { mode: "guarded", attributes: {} }).object.handle);
	overlay.remove(overlay.root, name("short-lived"), ROOT);
	return handle;
}
