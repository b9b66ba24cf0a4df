import assert from "node:assert/strict";
import { chmodSync, chownSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { allocate } from "../../src/linux/memory.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import type { ContentRight, Credentials } from "../../src/vfs/operations.ts";
import { walk } from "../in-process/walk.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

const OWNER: Credentials = { uid: 1000, gid: 1000, gids: [] };
const OTHER: Credentials = { uid: 1001, gid: 1001, gids: [] };
/** What owner and other may do, "r", "w" or both, of a file of this mode by each right. */
const GRANTED: readonly (readonly [mode: number, right: ContentRight, owner: string, other: string])[] = [
	[0o000, "mode", "", ""],
	[0o000, "owner", "rw", ""],
	[0o000, "open", "rw", "rw"],
	[0o111, "mode", "", ""],
	[0o111, "owner", "rw", "r"],
	[0o444, "mode", "r", "r"],
	[0o444, "owner", "rw", "r"],
	[0o622, "mode", "rw", "w"],
	[0o622, "owner", "rw", "w"],
	[0o622, "open", "rw", "rw"],
];

test("content is read and written by the right that the front end gives, of a lower file and when it was copied up", {
	skip: needs("root"),
}, async (t) => {
	const base = scratch(t).mount("tmpfs");
	const made = scratch(t);
	for (const [mode, right, owner, other] of GRANTED) {
		const name = `${mode.toString(8)}-${right}`;
		const lower = made.folder(name);
		writeFileSync(`${lower}/file`, "content");
		chownSync(`${lower}/file`, OWNER.uid, OWNER.gid);
		chmodSync(`${lower}/file`, mode);
		const { overlay } = openOverlay({ lowers: [lower], upper: `${base}/${name}`, stateFolder: base, isSync: false, purpose: "serve" });
		t.after(() => overlay.close());
		const may = async (act: () => unknown, letter: string): Promise<string> => {
			try {
				await untilReady(act);
				return letter;
			} catch (error) {
				assert.ok(error instanceof OverlayError && error.code === "acces", `${error}`);
				return "";
			}
		};
		const granted = async (who: Credentials): Promise<string> => {
			const buffer = allocate(16);
			const read = await may(() => overlay.read(walk(overlay, "file"), who, 0, 16, buffer, 0, right), "r");
			return read + (await may(() => overlay.write(walk(overlay, "file"), who, 0, Buffer.from("c"), right), "w"));
		};
		for (const when of ["in the lower or just copied up", "copied up"]) {
			assert.equal(await granted(OTHER), other, `other, ${name}, ${when}`);
			assert.equal(await granted(OWNER), owner, `owner, ${name}, ${when}`);
		}
	}
});
