// What copy up takes along of an object, from file to file, without an overlay.

import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { O } from "../../linux/open.ts";
import { fstat, Stat } from "../../linux/stat.ts";
import { CAPABILITY_XATTR, getXattr, listXattrs, setXattr } from "../../linux/xattr.ts";
import { ACL_ACCESS } from "../format/posix-acl.ts";
import { cannotMakeUpper, makeUpper } from "../work/upper-state.test-support.ts";
import { copyMetadata } from "./copy-up.ts";

const skip = cannotMakeUpper;
/** user::rw-, user:7:r--, group::r--, mask::r--, other::--- (acl(5)). */
const ACL = Buffer.from("0200000001000600ffffffff020004000700000004000400ffffffff10000400ffffffff20000000ffffffff", "hex");
const CAPABILITY = Buffer.from("0100000200200000000000000000000000000000", "hex");

function copyFrom(t: TestContext, make: (path: string) => void, kind: "file" | "dir" | "link", dress: (fd: number) => void = () => {}) {
	const made = makeUpper(t);
	const [from, to] = [join(made.disk, "from"), join(made.disk, "to")];
	make(from);
	if (kind === "file") writeFileSync(to, "");
	else if (kind === "dir") mkdirSync(to);
	else symlinkSync("target", to);
	const [source, target] = [made.open("from", O.path | O.nofollow), made.open("to", O.path | O.nofollow)];
	dress(source);
	const before = new Stat();
	assert.equal(fstat(source, before), 0);
	copyMetadata(made.state.layer, source, target, before);
	const after = new Stat();
	assert.equal(fstat(target, after), 0);
	const xattrs = (fd: number) => {
		const names = listXattrs(fd);
		assert.ok(typeof names !== "number");
		return new Map(names.map((name) => [name.toString("latin1"), (getXattr(fd, name) as Buffer).toString("hex")]));
	};
	const shown = ({ mode, uid, gid, atimeSec, atimeNsec, mtimeSec, mtimeNsec }: Stat) => {
		return { mode, uid, gid, atimeSec, atimeNsec, mtimeSec, mtimeNsec };
	};
	return { before: shown(before), after: shown(after), from: xattrs(source), to: xattrs(target) };
}

test("a file keeps owner, set-user-id bits, capabilities, ACL, xattrs and times to the nanosecond", { skip }, (t) => {
	const made = copyFrom(
		t,
		(path) => {
			writeFileSync(path, "content");
			chownSync(path, 1001, 1002);
			chmodSync(path, 0o6751);
			utimesSync(path, 1_000_000_000.25, -5.5);
		},
		"file",
		(fd) => {
			for (const [name, value] of [
				["user.any", Buffer.from([0, 0xff])],
				["trusted.any", Buffer.from("t")],
				[ACL_ACCESS, ACL],
				[CAPABILITY_XATTR, CAPABILITY],
			] as const) {
				assert.equal(setXattr(fd, name, value), 0, name);
			}
		},
	);
	assert.deepEqual(made.after, made.before);
	assert.deepEqual(made.to, made.from);
	assert.ok(made.to.has(ACL_ACCESS) && made.to.has(CAPABILITY_XATTR));
});

test("the overlay's own xattrs stay behind, and what an overlay on top keeps escaped is content", { skip }, (t) => {
	const names = ["trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.holdfast", "trusted.overlay.overlay.opaque"];
	const made = copyFrom(
		t,
		(path) => mkdirSync(path),
		"dir",
		(fd) => {
			for (const name of names) assert.equal(setXattr(fd, name, Buffer.from("y")), 0);
		},
	);
	assert.deepEqual([...made.to.keys()], ["trusted.overlay.overlay.opaque"]);
});

test("a symlink keeps owner and times, and its mode is left alone", { skip }, (t) => {
	const made = copyFrom(t, (path) => symlinkSync("elsewhere", path), "link");
	assert.deepEqual(made.after, made.before);
});

test("the mode of a directory stands, whatever a set-group-id bit or an umask would make of it", { skip }, (t) => {
	const made = copyFrom(
		t,
		(path) => {
			mkdirSync(path);
			chownSync(path, 3, 4);
			chmodSync(path, 0o3777);
		},
		"dir",
	);
	assert.deepEqual(made.after, made.before);
});
