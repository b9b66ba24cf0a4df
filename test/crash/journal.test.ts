import assert from "node:assert/strict";
import { test } from "node:test";
import { allocate } from "../../src/linux/memory.ts";
import { keyOf } from "../in-process/keyed.ts";
import { needs } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { bytes, Lowers, ROOT, Stage } from "./stage.ts";

const skip = needs("root");
const buffer = allocate(4096);

test("a change that was answered is not completed again when its client has been silent for so long that it is forgotten", {
	skip,
}, async (t) => {
	const stage = new Stage(new Lowers(scratch(t).mount("tmpfs")), "stage");
	await stage.build();
	const { handle } = stage.find("pure");
	const file = () => stage.overlay.decode(handle);
	stage.overlay.setattr(file(), ROOT, { size: 0 }, undefined, keyOf("client", 1));
	stage.overlay.write(file(), ROOT, 0, bytes("written since"));
	const now = Date.now;
	t.after(() => {
		Date.now = now;
	});
	for (const minutes of [20, 40, 60]) {
		Date.now = () => now() + minutes * 60_000;
		await stage.restart();
		const { count } = stage.overlay.read(file(), ROOT, 0, 100, buffer, 0);
		assert.equal(buffer.bytes.subarray(0, count).toString(), "written since", `served again after ${minutes} minutes`);
	}
	await stage.close();
});
