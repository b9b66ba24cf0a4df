import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import type { CreateHow } from "../../src/vfs/operations.ts";
import { keyOf } from "../in-process/keyed.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { type FileSystem, scratch } from "../support/scratch.ts";

const skip = needs("root");
const name = (text: string) => Buffer.from(text);
const isCode = (code: string) => (error: unknown) => error instanceof OverlayError && error.code === code;

function stage(t: TestContext, fileSystem: FileSystem = "tmpfs") {
	const base = scratch(t).mount(fileSystem);
	const lower = plant(`${base}/lower`, { file: "content" });
	const open = () =>
		openOverlay({ lowers: [lower], upper: `${base}/upper`, stateFolder: `${base}/state`, isSync: false, purpose: "serve" }).overlay;
	let overlay = open();
	t.after(() => overlay.close());
	return {
		get overlay() {
			return overlay;
		},
		async restart() {
			await overlay.close();
			overlay = open();
		},
	};
}

test("create says whether it made the file, and says so again after a restart", { skip }, async (t) => {
	const it = stage(t);
	const unchecked: CreateHow = { mode: "unchecked", attributes: { size: 0 } };
	const cases = [
		["new", unchecked, true],
		["new", unchecked, false],
		["file", unchecked, false],
		["guarded", { mode: "guarded", attributes: {} }, true],
		["exclusive", { mode: "exclusive", verifier: Buffer.alloc(8, 7) }, true],
		// sent again with another key, as a client does that has lost its connection
		["exclusive", { mode: "exclusive", verifier: Buffer.alloc(8, 7) }, true],
	] as const;
	const handles: Buffer[] = [];
	for (const [i, [path, how, made]] of cases.entries()) {
		const created = await untilReady(() => it.overlay.create(it.overlay.root, name(path), ROOT, how, keyOf("client", i)));
		assert.equal(created.made, made, `${path}, number ${i}`);
		assert.equal(created.object, walk(it.overlay, path));
		handles.push(created.object.handle);
	}
	await it.restart();
	for (const [i, [path, how, made]] of cases.entries()) {
		const created = it.overlay.create(it.overlay.root, name(path), ROOT, how, keyOf("client", i));
		assert.deepEqual([created.made, created.object.handle], [made, handles[i]], `${path}, number ${i}`);
	}
});

for (const fileSystem of ["tmpfs", "ext4"] as const) {
	test(`an exclusive create keeps all 64 bits of its verifier, and takes attributes but times (${fileSystem})`, { skip }, (t) => {
		const { overlay } = stage(t, fileSystem);
		const verifier = Buffer.from("80000001ffffffff", "hex");
		const attributes = { mode: 0o640, uid: 5, gid: 6, size: 9 };
		const create = (bytes: Buffer) => overlay.create(overlay.root, name("new"), ROOT, { mode: "exclusive", verifier: bytes, attributes });
		const { object } = create(verifier);
		const { mode, uid, gid, sizeLo } = overlay.getattr(object);
		assert.deepEqual({ mode, uid, gid, size: sizeLo }, attributes);
		assert.equal(create(verifier).object, object);
		for (let bit = 0; bit < 64; bit++) {
			const other = Buffer.from(verifier);
			other[bit >>> 3] ^= 1 << (bit & 7);
			assert.throws(() => create(other), isCode("exist"), `bit ${bit}`);
		}
		for (const times of [{ atime: "now" }, { mtime: { sec: 1, nsec: 1 } }] as const) {
			const how: CreateHow = { mode: "exclusive", verifier, attributes: times };
			assert.throws(() => overlay.create(overlay.root, name("timed"), ROOT, how), isCode("inval"));
		}
	});
}

test("a umask takes bits from what is made, unless a default ACL decides, and counts for nothing that exists", { skip }, (t) => {
	const { overlay } = stage(t, "ext4");
	const modeOf = (path: string) => overlay.getattr(walk(overlay, path)).mode;
	const attributes = { mode: 0o777, umask: 0o027 };
	const makeIn = (path: string) => {
		const directory = walk(overlay, path);
		overlay.create(directory, name("file"), ROOT, { mode: "guarded", attributes });
		overlay.create(directory, name("exclusive"), ROOT, { mode: "exclusive", verifier: Buffer.alloc(8), attributes });
		overlay.mkdir(directory, name("dir"), ROOT, attributes);
		overlay.mknod(directory, name("fifo"), ROOT, 1, 0, 0, attributes);
		return ["file", "exclusive", "dir", "fifo"].map((made) => modeOf(`${path}/${made}`).toString(8));
	};
	for (const path of ["plain", "acl"]) overlay.mkdir(overlay.root, name(path), ROOT, { mode: 0o755 });
	// version 2, then user::rwx, group::r-x, other::r-x: tag, permissions, id
	const acl = Buffer.from("02000000" + "01000700ffffffff" + "04000500ffffffff" + "20000500ffffffff", "hex");
	overlay.setxattr(walk(overlay, "acl"), ROOT, name("system.posix_acl_default"), acl);
	assert.deepEqual(makeIn("plain"), ["750", "750", "750", "750"]);
	assert.deepEqual(makeIn("acl"), ["755", "755", "755", "755"]);
	assert.throws(() => overlay.setattr(walk(overlay, "plain/file"), ROOT, { umask: 0o077 }), isCode("inval"));
});
