import type { Node } from "../../src/overlay/nodes/node.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { FileType, type OverlayObject, type SetAttributes } from "../../src/vfs/operations.ts";
import { bytes, nameOf, parentOf, ROOT } from "../crash/stage.ts";

/** One request of a client, as data: it is done in this process or in another, and to the model of what must come of it. */
export type Change =
	| { readonly does: "write"; readonly path: string; readonly text: string }
	| { readonly does: "setattr"; readonly path: string; readonly set: SetAttributes }
	| { readonly does: "setxattr"; readonly path: string; readonly name: string; readonly value: string }
	| { readonly does: "link"; readonly path: string; readonly to: string }
	| { readonly does: "rename"; readonly path: string; readonly to: string }
	| { readonly does: "exchange"; readonly path: string; readonly to: string }
	| { readonly does: "remove"; readonly path: string }
	| { readonly does: "rmdir"; readonly path: string }
	| { readonly does: "create"; readonly path: string; readonly type: MadeType };

export type MadeType = "reg" | "dir" | "lnk" | "chr";

/** What everything that is made here says of itself. */
export const TARGET = "target";
export const DEVICE = { major: 7, minor: 9 } as const;

export const write = (path: string, text = "WRITTEN"): Change => ({ does: "write", path, text });
export const setattr = (path: string, set: SetAttributes): Change => ({ does: "setattr", path, set });
export const link = (path: string, to: string): Change => ({ does: "link", path, to });
export const rename = (path: string, to: string): Change => ({ does: "rename", path, to });
export const remove = (path: string): Change => ({ does: "remove", path });
export const rmdir = (path: string): Change => ({ does: "rmdir", path });
export const create = (path: string, type: MadeType = "reg"): Change => ({ does: "create", path, type });

/** Does it once, as a front end does. `at` gives the object that a client knows by that path. The object that was made, if one was. */
export function perform(overlay: Overlay, change: Change, at: (path: string) => Node): OverlayObject | null {
	const { path } = change;
	switch (change.does) {
		case "write":
			overlay.write(at(path), ROOT, 0, bytes(change.text));
			return null;
		case "setattr":
			overlay.setattr(at(path), ROOT, change.set);
			return null;
		case "setxattr":
			overlay.setxattr(at(path), ROOT, bytes(change.name), bytes(change.value));
			return null;
		case "link":
			overlay.link(at(path), at(parentOf(change.to)), nameOf(change.to), ROOT);
			return null;
		case "rename":
			overlay.rename(at(parentOf(path)), nameOf(path), at(parentOf(change.to)), nameOf(change.to), ROOT);
			return null;
		case "exchange":
			overlay.exchange(at(parentOf(path)), nameOf(path), at(parentOf(change.to)), nameOf(change.to), ROOT);
			return null;
		case "remove":
			overlay.remove(at(parentOf(path)), nameOf(path), ROOT);
			return null;
		case "rmdir":
			overlay.rmdir(at(parentOf(path)), nameOf(path), ROOT);
			return null;
		case "create":
			return make(overlay, at(parentOf(path)), nameOf(path), change.type);
	}
}

function make(overlay: Overlay, parent: Node, name: Buffer, type: MadeType): OverlayObject {
	switch (type) {
		case "reg":
			return overlay.create(parent, name, ROOT, { mode: "guarded", attributes: { mode: 0o644 } }).object;
		case "dir":
			return overlay.mkdir(parent, name, ROOT, { mode: 0o755 });
		case "lnk":
			return overlay.symlink(parent, name, ROOT, bytes(TARGET), {});
		case "chr":
			return overlay.mknod(parent, name, ROOT, FileType.chr, DEVICE.major, DEVICE.minor, { mode: 0o644 });
	}
}
