/** Adoption of an upper that other overlays have made while one call fails: what is shown then, or after the next start, is what an undisturbed one shows. */

import assert from "node:assert/strict";
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { LayerError } from "../../src/layer/layer-error.ts";
import { close, O, openPath } from "../../src/linux/open.ts";
import { setXattr } from "../../src/linux/xattr.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { inPasses } from "../../src/overlay/operations/until-ready.ts";
import { RegistryError } from "../../src/overlay/work/registry.ts";
import { describeFailure } from "../../src/vfs/system-errors.ts";
import { plant } from "../support/lower-tree.ts";
import { generator } from "../support/random.ts";
import { needs, seed, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { arm, disarm } from "./fault-injection.ts";
import { ERRORS } from "./fault-order.ts";
import type { Stage } from "./stage.ts";
import { observe } from "./tree.ts";

const LOWER = {
	gone: "gone",
	"dir/gone": "gone",
	"dir/stays": "stays",
	"whole/of lower": "below",
	"fuse/of lower": "below",
	"from/inner": "inner",
	data: "the data of a file",
	other: "the data of another",
};

function mark(path: string, name: string, value: string): void {
	const fd = openPath(path, O.path);
	assert.equal(setXattr(fd, name, Buffer.from(value)), 0);
	close(fd);
}

/** An upper with whiteouts that are files, directories that hide lower ones in three ways, one that was renamed, and files without data. */
function plantUpper(upper: string): void {
	plant(upper, {
		".wh.gone": "",
		"dir/.wh.gone": "",
		"whole/.wh..wh..opq": "",
		"whole/new": "new",
		"fuse/new": "new",
		"kernel/new": "new",
		"to/": "",
		data: "",
		renamed: "",
	});
	mark(join(upper, "fuse"), "user.fuseoverlayfs.opaque", "y");
	mark(join(upper, "kernel"), "trusted.overlay.opaque", "y");
	mark(join(upper, "to"), "trusted.overlay.redirect", "/from");
	plant(upper, { ".wh.from": "", ".wh.other": "" });
	for (const [name, length] of [
		["data", 18],
		["renamed", 19],
	] as const) {
		writeFileSync(join(upper, name), "");
		truncateSync(join(upper, name), length);
		mark(join(upper, name), "trusted.overlay.metacopy", "");
	}
	mark(join(upper, "renamed"), "trusted.overlay.redirect", "/other");
}

for (const handles of ["kernel", "portable"] as const) {
	test(`a call that fails during an adoption changes nothing of what is shown in the end: ${handles} handles`, {
		skip: needs("root") || cannotMount("tmpfs"),
	}, async (t) => {
		const base = scratch(t).mount("tmpfs");
		const lower = plant(join(base, "lower"), LOWER);
		let serial = 0;
		const planted = () => {
			const folder = join(base, `${serial++}`);
			const [upper, work] = [join(folder, "upper"), join(folder, "work")];
			for (const path of [upper, work]) mkdirSync(path, { recursive: true });
			plantUpper(upper);
			return { lowers: [lower], upper, work, stateFolder: join(folder, "state"), isSync: false, whiteoutFiles: "yes", handles } as const;
		};
		const shown = async (opened: ReturnType<typeof openOverlay>): Promise<string> => {
			const { overlay } = opened;
			const settle = <T>(operation: () => T) => inPasses(overlay, operation);
			const tree = await observe({ overlay, settle } as unknown as Stage, false);
			return [...tree].map(([path, { type, content }]) => `${path} ${type} ${content}`).join("\n");
		};
		const adopt = async (options: ReturnType<typeof planted>): Promise<string> => {
			const opened = openOverlay({ ...options, purpose: "adopt" });
			try {
				return await shown(opened);
			} finally {
				await opened.overlay.close();
			}
		};
		const expected = await adopt(planted());
		for (const line of ['dir/stays reg "stays"', "whole/new", "to/inner", "the data of another", "the data of a file"])
			assert.ok(expected.includes(line), `${line} is not in\n${expected}`);
		assert.doesNotMatch(expected, /gone|of lower|from|\.wh\./);
		const stride = volume(400, 17, 3);
		let places = 0;
		for (let at = 1 + generator(seed)(stride); ; at += stride) {
			const options = planted();
			arm({ at, error: ERRORS.EIO[0], isFrom: false });
			let failure: unknown = null;
			let opened: ReturnType<typeof openOverlay> | null = null;
			try {
				opened = openOverlay({ ...options, purpose: "adopt" });
			} catch (thrown) {
				failure = thrown;
			}
			const { hits, name } = disarm();
			const where = `call ${at} (${name})`;
			if (opened !== null) {
				try {
					assert.equal(await shown(opened), expected, where);
				} finally {
					await opened.overlay.close();
				}
			} else {
				const isSentence = failure instanceof LayerError || failure instanceof RegistryError || describeFailure(failure) !== null;
				assert.ok(isSentence, `${where}: ${(failure as Error).stack}`);
				assert.equal(await adopt(options), expected, `${where}, and again: ${(failure as Error).message}`);
			}
			if (hits === 0) break;
			places++;
		}
		t.diagnostic(`${places} places; seed ${seed}`);
		assert.ok(places > 0);
	});
}
