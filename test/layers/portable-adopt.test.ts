import assert from "node:assert/strict";
import { linkSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { FileType } from "../../src/vfs/operations.ts";
import { keptBy, ROOT } from "../crash/stage.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

/** Handle, type and link count of everything, by path; by the handle it is found again. */
function look(overlay: Overlay): Map<string, string> {
	const seen = new Map<string, string>();
	const visit = (path: string, handle: Buffer): void => {
		const node = overlay.decode(handle);
		const { type, nlink } = overlay.getattr(node);
		seen.set(path, `${handle.toString("hex")} ${type} ${type === FileType.dir ? "" : nlink}`);
		if (type !== FileType.dir) return;
		const cursor = overlay.list(node, ROOT, 0, 2);
		const names: Buffer[] = [];
		while (cursor.next()) names.push(Buffer.from(cursor.name));
		for (const name of names) {
			const found = overlay.lookup(overlay.decode(handle), name, ROOT);
			assert.ok(found !== null, `${path}/${name}`);
			visit(`${path}/${name}`, found.handle);
		}
	};
	visit("", overlay.root.handle);
	return seen;
}

for (const keeping of ["portable", "ordinary"] as const) {
	test(`everything in an upper that was made elsewhere gets a handle, and again after its work folder was lost: ${keeping}`, {
		skip: needs("root"),
	}, async (t) => {
		const base = scratch(t).mount("ext4");
		const lower = plant(join(base, "lower"), { "both/below": "b", "only/f": "f" });
		const upper = plant(join(base, "upper"), {
			file: "f",
			"both/above": "a",
			"both/deep/er/file": "d",
			link: { link: "file" },
			"dir/pipe": { node: ["p"] },
		});
		linkSync(join(upper, "file"), join(upper, "dir/second"));
		const work = join(base, "work");
		const layers = { lowers: [lower], upper, work, stateFolder: join(base, "state"), isSync: false, ...keptBy(keeping) };
		const open = (purpose: OpenOptions["purpose"]) => openOverlay({ ...layers, purpose }).overlay;
		for (const isLost of [false, true]) {
			if (isLost) {
				rmSync(join(work, "holdfast"), { recursive: true });
				await open("adopt").close();
			}
			let overlay = open("serve");
			const first = look(overlay);
			assert.deepEqual([...first.keys()].sort(), [
				"",
				"/both",
				"/both/above",
				"/both/below",
				"/both/deep",
				"/both/deep/er",
				"/both/deep/er/file",
				"/dir",
				"/dir/pipe",
				"/dir/second",
				"/file",
				"/link",
				"/only",
				"/only/f",
			]);
			assert.equal(first.get("/file"), first.get("/dir/second"));
			assert.match(first.get("/file") as string, / 2$/, "two names");
			assert.equal(new Set(first.values()).size, first.size - 1, "no other handle is shared");
			await overlay.close();
			overlay = open("serve");
			for (const [path, line] of first) {
				const node = overlay.decode(Buffer.from(line.split(" ")[0], "hex"));
				assert.equal(`${overlay.getattr(node).type}`, line.split(" ")[1], path);
			}
			assert.deepEqual(look(overlay), first, "after a restart");
			await overlay.close();
		}
	});
}
