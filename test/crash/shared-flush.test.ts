import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, type FileSystem, scratch } from "../support/scratch.ts";
import { PowerDisk } from "./power-disk.ts";

const ROOT = { uid: 0, gid: 0, gids: [] };
const CLIENTS = 16;
const EACH = 40;

interface Stand {
	readonly disk: PowerDisk;
	open(): Overlay;
}

function stand(t: TestContext, kind: FileSystem): Stand {
	const made = scratch(t);
	const disk = new PowerDisk(made, kind);
	for (const name of ["lower", "upper", "work"]) mkdirSync(join(disk.path, name));
	writeFileSync(join(disk.path, "lower/file"), "content");
	const at = (name: string) => join(disk.path, name);
	const open = () =>
		openOverlay({
			lowers: [at("lower")],
			upper: at("upper"),
			work: at("work"),
			stateFolder: made.folder("state"),
			isSync: true,
			purpose: "serve",
		}).overlay;
	return { disk, open };
}

/** Makes files as so many clients at once, each waiting for its reply before it asks again. */
async function createAll(overlay: Overlay): Promise<number> {
	const before = overlay.flushes;
	const client = async (number: number) => {
		for (let i = 0; i < EACH; i++) {
			overlay.create(overlay.root, Buffer.from(`client-${number}-${i}`), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }).object;
			await overlay.stable();
		}
	};
	await Promise.all(Array.from({ length: CLIENTS }, (_, number) => client(number)));
	return overlay.flushes - before;
}

for (const kind of ["ext4", "xfs"] as const) {
	const skip = needs("root") || cannotMount(kind);

	test(`on ${kind} concurrent creates share flushes, and every one that was acknowledged outlives a power failure`, { skip }, async (t) => {
		const { disk, open } = stand(t, kind);
		const overlay = open();
		const flushes = await createAll(overlay);
		t.diagnostic(`${CLIENTS * EACH} creates of ${CLIENTS} clients: ${flushes} flushes`);
		assert.ok(flushes <= (CLIENTS * EACH) / 4, `${flushes} flushes`);
		const file = overlay.create(overlay.root, Buffer.from("written"), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }).object;
		overlay.write(file, ROOT, 0, Buffer.from("committed"));
		overlay.write(overlay.lookup(overlay.root, Buffer.from("client-0-0"), ROOT) ?? file, ROOT, 0, Buffer.from("also"));
		await overlay.stable();
		await overlay.commit(file);
		overlay.setattr(file, ROOT, { size: 4 });
		await overlay.stable();
		overlay.write(file, ROOT, 4, Buffer.from("ent"));
		await overlay.commit(file);
		disk.cut();
		await overlay.close().catch(() => {});
		disk.restore();
		const again = open();
		for (let number = 0; number < CLIENTS; number++) {
			for (let i = 0; i < EACH; i++) {
				assert.ok(again.lookup(again.root, Buffer.from(`client-${number}-${i}`), ROOT), `client-${number}-${i}`);
			}
		}
		const found = again.lookup(again.root, Buffer.from("written"), ROOT);
		assert.ok(found);
		assert.deepEqual(found.handle, file.handle);
		assert.equal(again.getattr(found).sizeLo, 7, "the truncation that came before committed content is not done twice");
		await again.close();
	});

	test(`on ${kind} a flush that fails is told, and the write verifier is another one from then on and after each start`, {
		skip,
	}, async (t) => {
		const { disk, open } = stand(t, kind);
		const overlay = open();
		const file = overlay.create(overlay.root, Buffer.from("file2"), ROOT, { mode: "guarded", attributes: { mode: 0o644 } }).object;
		const verifier = Buffer.from(overlay.writeVerifier);
		await overlay.stable();
		overlay.write(file, ROOT, 0, Buffer.from("unstable"));
		assert.deepEqual(overlay.writeVerifier, verifier);
		const pending = overlay.commit(file);
		await pending;
		overlay.write(file, ROOT, 0, Buffer.from("lost"));
		disk.cut();
		await assert.rejects(overlay.commit(file), (error) => error instanceof OverlayError && error.code === "io");
		const renewed = Buffer.from(overlay.writeVerifier);
		assert.notDeepEqual(renewed, verifier);
		await assert.rejects(Promise.resolve(overlay.stable()));
		assert.notDeepEqual(overlay.writeVerifier, renewed);
		await overlay.close().catch(() => {});
		disk.restore();
		const again = open();
		assert.notDeepEqual(again.writeVerifier, verifier);
		const found = again.lookup(again.root, Buffer.from("file2"), ROOT);
		assert.ok(found);
		assert.equal(again.getattr(found).sizeLo, 8);
		await again.close();
	});
}
