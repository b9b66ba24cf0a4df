// Extended attributes and ACLs through an overlay, as the system calls treat them.

import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { plant } from "../../../test/support/lower-tree.ts";
import { needs } from "../../../test/support/requirements.ts";
import { cannotMount, scratch } from "../../../test/support/scratch.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { getXattr, listXattrs, setXattr } from "../../linux/xattr.ts";
import { OverlayError, Pending } from "../../vfs/errors.ts";
import type { Credentials } from "../../vfs/operations.ts";
import { openOverlay } from "../opening/open-overlay.ts";
import type { Overlay } from "./overlay.ts";

const skip = needs("root") || cannotMount("ext4");
const ROOT: Credentials = { uid: 0, gid: 0, gids: [] };
const OWNER: Credentials = { uid: 1001, gid: 1001, gids: [] };
const OTHER: Credentials = { uid: 1002, gid: 1002, gids: [] };
const VALUE = Buffer.from("value");
/** u::rwx user:1002:rw- g::r-x m::rwx o::r-- */
const ACL = acl([1, 7], [2, 6, 1002], [4, 5], [16, 7], [32, 4]);
const ACCESS = "system.posix_acl_access";
const DEFAULT = "system.posix_acl_default";

function acl(...entries: [tag: number, permissions: number, id?: number][]): Buffer {
	const bytes = Buffer.alloc(4 + entries.length * 8);
	bytes.writeUInt32LE(2, 0);
	entries.forEach(([tag, permissions, id = 0xffffffff], i) => {
		bytes.writeUInt16LE(tag, 4 + i * 8);
		bytes.writeUInt16LE(permissions, 6 + i * 8);
		bytes.writeUInt32LE(id, 8 + i * 8);
	});
	return bytes;
}

interface Rig {
	readonly overlay: Overlay;
	readonly lower: string;
	readonly upper: string;
	set(path: string, name: string, value?: Buffer, who?: Credentials, mode?: "any" | "create" | "replace"): Promise<string>;
	remove(path: string, name: string, who?: Credentials): Promise<string>;
	/** The value, or the code of the error. */
	get(path: string, name: string, who?: Credentials): string;
	list(path: string, who?: Credentials): string[];
	mode(path: string): string;
	isCopiedUp(path: string): boolean;
}

/** An overlay over a file, a directory, a sticky one and a symlink, all of the owner. */
function rig(t: TestContext): Rig {
	const top = scratch(t).mount("ext4", "xattr", 64);
	const lower = plant(join(top, "lower"), { file: "text", "dir/": "", "sticky/": "", link: { link: "file" }, pipe: { node: ["p"] } });
	for (const [name, mode] of [
		["file", 0o644],
		["dir", 0o755],
		["sticky", 0o1777],
	] as const) {
		chownSync(join(lower, name), OWNER.uid, OWNER.gid);
		chmodSync(join(lower, name), mode);
	}
	onReal(join(lower, "file"), (fd) => {
		setXattr(fd, "user.lower", VALUE);
		setXattr(fd, "trusted.lower", VALUE);
		setXattr(fd, "trusted.overlay.overlay.opaque", VALUE);
		setXattr(fd, "trusted.overlay.origin", VALUE);
	});
	const upper = join(top, "upper");
	mkdirSync(upper);
	const { overlay } = openOverlay({
		lowers: [lower],
		upper,
		work: join(top, "work"),
		stateFolder: join(top, "state"),
		isSync: false,
		purpose: "serve",
	});
	t.after(() => overlay.close());
	const at = (path: string) => {
		let node = overlay.root;
		for (const name of path.split("/").filter((part) => part !== "")) {
			const child = overlay.lookup(node, Buffer.from(name), ROOT);
			assert.ok(child !== null, path);
			node = child;
		}
		return node;
	};
	const attempt = async (run: () => void) => {
		for (;;) {
			try {
				run();
				return "ok";
			} catch (error) {
				if (error instanceof OverlayError) return error.code;
				if (!(error instanceof Pending)) throw error;
				await error.ready;
			}
		}
	};
	return {
		overlay,
		lower,
		upper,
		set: (path, name, value = VALUE, who = ROOT, mode = "any") =>
			attempt(() => overlay.setxattr(at(path), who, Buffer.from(name), value, mode)),
		remove: (path, name, who = ROOT) => attempt(() => overlay.removexattr(at(path), who, Buffer.from(name))),
		get: (path, name, who = ROOT) => {
			try {
				return overlay.getxattr(at(path), who, Buffer.from(name)).toString("latin1");
			} catch (error) {
				if (error instanceof OverlayError) return error.code;
				throw error;
			}
		},
		list: (path, who = ROOT) => {
			const names = overlay.listxattr(at(path), who).map((name) => name.toString());
			return names.sort();
		},
		mode: (path) => overlay.getattr(at(path)).mode.toString(8),
		isCopiedUp: (path) => at(path).isUpper,
	};
}

function onReal<T>(path: string, action: (fd: number) => T): T {
	const fd = openPath(path, O.path | O.nofollow);
	assert.ok(fd >= 0, path);
	try {
		return action(fd);
	} finally {
		close(fd);
	}
}

test("an attribute is set, replaced and removed, and the first change copies up with what was there", { skip }, async (t) => {
	const { set, get, remove, list, isCopiedUp, lower } = rig(t);
	assert.equal(get("file", "user.lower"), "value");
	assert.equal(isCopiedUp("file"), false, "reading");
	assert.equal(await set("file", "user.lower", VALUE, ROOT, "create"), "exist");
	assert.equal(await set("file", "user.none", VALUE, ROOT, "replace"), "noattr");
	assert.equal(await remove("file", "user.none"), "noattr");
	assert.equal(isCopiedUp("file"), false, "what is refused");
	assert.equal(await set("file", "user.new", Buffer.from("other"), ROOT, "create"), "ok");
	assert.equal(isCopiedUp("file"), true);
	assert.equal(get("file", "user.new"), "other");
	assert.equal(await set("file", "user.lower", Buffer.alloc(0), ROOT, "replace"), "ok");
	assert.equal(get("file", "user.lower"), "");
	assert.equal(await remove("file", "trusted.lower"), "ok");
	assert.deepEqual(list("file"), ["trusted.overlay.opaque", "user.lower", "user.new"]);
	const before = onReal(join(lower, "file"), (fd) => listXattrs(fd)) as Buffer[];
	assert.equal(before.length, 4, "the lower stays as it was");
});

test("the overlay's own attributes are hidden; of the same name a client has its own, kept escaped", { skip }, async (t) => {
	const { set, get, remove, list, upper } = rig(t);
	assert.deepEqual(list("file"), ["trusted.lower", "trusted.overlay.opaque", "user.lower"]);
	assert.equal(get("file", "trusted.overlay.opaque"), "value");
	assert.equal(get("file", "trusted.overlay.origin"), "noattr");
	assert.equal(await set("dir", "trusted.overlay.opaque", Buffer.from("y")), "ok");
	assert.equal(await set("dir", "trusted.overlay.origin"), "ok");
	assert.deepEqual(list("dir"), ["trusted.overlay.opaque", "trusted.overlay.origin"]);
	onReal(join(upper, "dir"), (fd) => {
		assert.equal((getXattr(fd, "trusted.overlay.overlay.opaque") as Buffer).toString(), "y");
		assert.equal(typeof getXattr(fd, "trusted.overlay.opaque"), "number");
	});
	assert.equal(await remove("dir", "trusted.overlay.origin"), "ok");
	assert.equal(await remove("dir", "trusted.overlay.origin"), "noattr");
	assert.equal(await set("dir", "trusted.overlay."), "inval");
	assert.equal(await set("dir", `trusted.overlay.${"n".repeat(235)}`), "notsupp");
});

test("who may change and see an attribute depends on its namespace, as xattr(7) says", { skip }, async (t) => {
	const { set, get, remove, list } = rig(t);
	const rows: readonly (readonly [path: string, name: string, root: string, owner: string, other: string])[] = [
		["file", "user.a", "ok", "ok", "acces"],
		["dir", "user.a", "ok", "ok", "acces"],
		["sticky", "user.a", "ok", "ok", "perm"],
		["link", "user.a", "perm", "perm", "perm"],
		["pipe", "user.a", "perm", "perm", "perm"],
		["file", "trusted.a", "ok", "perm", "perm"],
		["link", "trusted.a", "ok", "perm", "perm"],
		["file", "security.a", "ok", "perm", "perm"],
		["file", "trusted.overlay.a", "ok", "perm", "perm"],
		["file", "system.a", "notsupp", "notsupp", "notsupp"],
		["file", "nothing", "notsupp", "notsupp", "notsupp"],
		["file", "user.", "inval", "inval", "acces"],
		["link", "user.", "perm", "perm", "perm"],
		["file", "", "inval", "inval", "inval"],
		["file", `user.${"n".repeat(251)}`, "nametoolong", "nametoolong", "nametoolong"],
		["file", "security.capability", "inval", "perm", "perm"],
	];
	for (const [path, name, root, owner, other] of rows) {
		assert.equal(await set(path, name, VALUE, OTHER), other, `${path} ${name}: other`);
		assert.equal(await set(path, name, VALUE, OWNER), owner, `${path} ${name}: owner`);
		assert.equal(await set(path, name), root, `${path} ${name}: root`);
		if (root !== "ok") continue;
		assert.equal(await remove(path, name, OTHER), other, `remove ${path} ${name}: other`);
	}
	assert.equal(get("file", "user.a", OTHER), "value");
	assert.equal(get("file", "trusted.a", OWNER), "noattr");
	assert.equal(get("link", "user.a"), "noattr");
	assert.deepEqual(
		list("file", OWNER).filter((name) => name.startsWith("trusted.")),
		[],
	);
	const capability = Buffer.from("0100000200040000000000000000000000000000", "hex");
	assert.equal(await set("file", "security.capability", capability), "ok");
	assert.equal(await set("file", "user.big", Buffer.alloc(70_000)), "fbig");
	assert.equal(await set("file", "user.big", Buffer.alloc(20_000)), "nospc", "more than ext4 has room for");
});

test("an ACL sets the mode, grants, is inherited, and is taken from its owner alone", { skip }, async (t) => {
	const { set, get, remove, list, mode, overlay, isCopiedUp } = rig(t);
	assert.equal(await remove("file", ACCESS), "ok", "of a file in a lower that has none");
	assert.equal(isCopiedUp("file"), false);
	assert.equal(await set("file", ACCESS, ACL, OTHER), "perm");
	assert.equal(await set("file", DEFAULT, ACL, OTHER), "acces");
	assert.equal(await set("link", ACCESS, ACL), "notsupp");
	assert.equal(await set("file", ACCESS, ACL, OWNER), "ok");
	assert.equal(mode("file"), "774");
	assert.equal(await set("file", "user.byacl", VALUE, OTHER), "ok", "the named user may write");
	// no more than the mode says
	assert.equal(await set("file", ACCESS, acl([1, 6], [4, 4], [32, 0]), OWNER), "ok");
	assert.equal(mode("file"), "640");
	assert.equal(get("file", ACCESS), "noattr");
	assert.equal(await set("dir", DEFAULT, ACL, OWNER), "ok");
	assert.equal(mode("dir"), "755");
	const dir = overlay.lookup(overlay.root, Buffer.from("dir"), ROOT);
	assert.ok(dir !== null);
	overlay.create(dir, Buffer.from("new"), ROOT, { mode: "guarded", attributes: { mode: 0o660 } }).object;
	assert.deepEqual(list("dir/new"), [ACCESS]);
	assert.equal(await set("dir", DEFAULT, Buffer.alloc(0), OWNER), "ok", "an empty value removes");
	assert.equal(await remove("dir", DEFAULT), "ok", "of a directory in upper that has none");
	for (const [value, expected] of [
		[VALUE, "notsupp"],
		[Buffer.from([2, 0]), "inval"],
		[acl([1, 7], [2, 6, 1002], [4, 5], [32, 4]), "inval"],
	] as const) {
		assert.equal(await set("dir", ACCESS, value, OWNER), expected, value.toString("hex"));
	}
	overlay.setattr(dir, ROOT, { gid: 7, mode: 0o2775 });
	assert.equal(await set("dir", ACCESS, ACL, OWNER), "ok");
	assert.equal(mode("dir"), "774", "who is not in the group cannot keep its set-group-id bit");
});
