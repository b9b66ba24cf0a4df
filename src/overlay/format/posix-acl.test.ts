// ACLs judged, granted and inherited as the kernel does.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, lstatSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { needs, sbinPath } from "../../../test/support/requirements.ts";
import { cannotMount, scratch } from "../../../test/support/scratch.ts";
import { ENODATA, ERRNO } from "../../linux/errno.ts";
import { makeNode } from "../../linux/names.ts";
import { close, O, openAt, openPath } from "../../linux/open.ts";
import { getXattr, setXattr } from "../../linux/xattr.ts";
import { ACL_ACCESS, ACL_DEFAULT, aclGrants, inheritAcl, judgeAcl } from "./posix-acl.ts";

const TAGS: Record<string, number> = { u: 1, user: 2, g: 4, group: 8, m: 16, o: 32 };

/** From text as `u::rw user:7:r g::r group:9:x m::rx o::` to the bytes of the xattr. */
function acl(text: string): Buffer {
	const entries = text.split(" ").map((entry) => {
		const [tag, id, permissions] = entry.split(":");
		const bytes = Buffer.alloc(8);
		bytes.writeUInt16LE(TAGS[tag], 0);
		bytes.writeUInt16LE(
			[...permissions].reduce((sum, letter) => sum + ({ r: 4, w: 2, x: 1 }[letter] ?? 0), 0),
			2,
		);
		bytes.writeUInt32LE(id === "" ? 0xffffffff : Number(id), 4);
		return bytes;
	});
	return Buffer.concat([Buffer.from([2, 0, 0, 0]), ...entries]);
}

const [R, W, X] = [4, 2, 1];
const OWNING_GROUP = 100;

/** The ACL, who asks (uid and groups; never the owner), what for, and what acl(5) says to it. */
const DECISIONS: readonly (readonly [string, number, readonly number[], number, boolean])[] = [
	// a named user decides alone, even where a group would give more
	["u::rwx user:7:r g::rwx m::rwx o::rwx", 7, [OWNING_GROUP], R, true],
	["u::rwx user:7:r g::rwx m::rwx o::rwx", 7, [OWNING_GROUP], W, false],
	["u::rwx user:7:r g::rwx m::rwx o::rwx", 7, [], R | W, false],
	["u::rwx user:7: g::rwx m::rwx o::rwx", 7, [], R, false],
	// within the mask
	["u::rwx user:7:rwx g::r m::r o::", 7, [], R, true],
	["u::rwx user:7:rwx g::r m::r o::", 7, [], W, false],
	["u::rwx user:7:rwx g::r m:: o::rwx", 7, [], R, false],
	// another user's entry is none of ours
	["u::rwx user:7:rwx g::r m::rwx o::", 8, [], R, false],
	["u::rwx user:7: g::r m::rwx o::rw", 8, [], R | W, true],
	// the owning group, within the mask where there is one
	["u::rwx g::rx o::", 8, [OWNING_GROUP], R | X, true],
	["u::rwx g::rx o::rwx", 8, [OWNING_GROUP], W, false],
	["u::rwx user:7:r g::rwx m::r o::rwx", 8, [OWNING_GROUP], R, true],
	["u::rwx user:7:r g::rwx m::r o::rwx", 8, [OWNING_GROUP], W, false],
	// named groups: any one that gives all of it
	["u::rwx g:: group:9:rw m::rwx o::", 8, [9], R | W, true],
	["u::rwx g:: group:9:rw m::rwx o::", 8, [9], X, false],
	["u::rwx g:: group:9:r group:10:w m::rwx o::", 8, [9, 10], R, true],
	["u::rwx g:: group:9:r group:10:w m::rwx o::", 8, [9, 10], W, true],
	// two groups that give a half each do not add up
	["u::rwx g:: group:9:r group:10:w m::rwx o::rwx", 8, [9, 10], R | W, false],
	["u::rwx g::r group:9:w m::rwx o::rwx", 8, [OWNING_GROUP, 9], R | W, false],
	["u::rwx g::r group:9:rw m::rwx o::", 8, [OWNING_GROUP, 9], R | W, true],
	["u::rwx g:: group:9:rwx m::r o::rwx", 8, [9], R | W, false],
	// a member of a group that gives nothing does not fall back to others
	["u::rwx g:: group:9: m::rwx o::rwx", 8, [9], R, false],
	["u::rwx g:: o::rwx", 8, [OWNING_GROUP], R, false],
	// others are not masked
	["u::rwx user:7:rwx g::rwx group:9:rwx m:: o::rw", 8, [11], R | W, true],
	["u::rwx g::rwx o::x", 8, [11], R, false],
	["u::rwx g::rwx o::x", 8, [], X, true],
];

test("who is not the owner gets what the algorithm of acl(5) gives", () => {
	for (const [text, uid, groups, wanted, expected] of DECISIONS) {
		const granted = aclGrants(acl(text), uid, (gid) => groups.includes(gid), OWNING_GROUP, wanted);
		assert.equal(granted, expected, `${text}, user ${uid} of ${groups}, wants ${wanted}`);
	}
});

test("what is no ACL decides nothing", () => {
	const good = acl("u::rwx g::rwx o::rwx");
	const version = Buffer.from(good);
	version[0] = 1;
	for (const value of [Buffer.alloc(0), good.subarray(0, 3), good.subarray(0, good.length - 1), version]) {
		assert.equal(
			aclGrants(value, 1, () => true, 1, R),
			null,
		);
		assert.equal(inheritAcl(value, 0o777), null);
	}
});

test("a new object gets the default ACL bounded by the mode that was asked for", () => {
	const cases: [string, number, number, string | null][] = [
		// the default ACL, the mode asked for, the mode it gets, and its ACL if that says more
		["u::rwx g::rx o::r", 0o777, 0o754, null],
		["u::rwx g::rx o::r", 0o600, 0o600, null],
		["u::rw g::rw o::rw", 0o4751, 0o4640, null],
		["u::rwx user:7:rwx g::rx m::rwx o::", 0o666, 0o660, "u::rw user:7:rwx g::rx m::rw o::"],
		["u::rwx user:7:rwx g::rx m::rwx o::", 0o750, 0o750, "u::rwx user:7:rwx g::rx m::rx o::"],
		["u::rwx g::rwx group:9:w m::r o::x", 0o1777, 0o1741, "u::rwx g::rwx group:9:w m::r o::x"],
		["u::rwx user:7:r g:: m::r o::", 0o000, 0o000, "u:: user:7:r g:: m:: o::"],
	];
	for (const [text, mode, expected, access] of cases) {
		const inherited = inheritAcl(acl(text), mode);
		assert.equal(inherited?.mode, expected, text);
		assert.deepEqual(inherited?.access, access === null ? null : acl(access), text);
	}
});

test("inheritance gives what the kernel gives in a directory of setfacl -d", { skip: needs("root", "setfacl") }, (t) => {
	const path = scratch(t).mount("tmpfs", "tmpfs", 1);
	const former = process.umask(0o077);
	t.after(() => process.umask(former));
	const defaults = ["u::rwx,g::rx,o::r", "u::rw,g::-,o::-", "u::rwx,u:7:rwx,g::rx,m::rwx,o::-", "u::rw,u:7:r,g:9:rwx,g::rwx,m::r,o::rwx"];
	let compared = 0;
	for (const [i, text] of defaults.entries()) {
		const parent = join(path, `${i}`);
		mkdirSync(parent);
		execFileSync("setfacl", ["-d", "--set", text, parent], { stdio: "pipe", env: { ...process.env, PATH: sbinPath() } });
		const parentFd = openPath(parent, O.rdonly | O.directory);
		const defaultAcl = getXattr(parentFd, ACL_DEFAULT);
		assert.ok(Buffer.isBuffer(defaultAcl));
		for (const mode of [0o777, 0o755, 0o666, 0o640, 0o600, 0o077, 0o000]) {
			const inherited = inheritAcl(defaultAcl, mode);
			mkdirSync(join(parent, `d${mode}`), mode);
			closeSync(openSync(join(parent, `f${mode}`), "wx", mode));
			assert.equal(makeNode(parentFd, `p${mode}`, 0o010000 | mode, 0, 0), 0);
			for (const name of [`d${mode}`, `f${mode}`, `p${mode}`]) {
				const fd = openAt(parentFd, name, O.path | O.nofollow);
				const access = getXattr(fd, ACL_ACCESS);
				close(fd);
				assert.equal(lstatSync(join(parent, name)).mode & 0o777, inherited?.mode, `${text}, ${name}`);
				assert.deepEqual(Buffer.isBuffer(access) ? access : null, inherited?.access, `${text}, ${name}`);
				compared++;
			}
		}
		close(parentFd);
	}
	assert.equal(compared, defaults.length * 21);
});

test("an ACL is valid where the kernel takes it", { skip: needs("root") || cannotMount("tmpfs") }, (t) => {
	const folder = scratch(t).mount("tmpfs", "judge", 8);
	const fd = openSync(folder, "r");
	t.after(() => closeSync(fd));
	const values = [
		"u::rwx g::rx o::r",
		"u::rwx user:7:rw g::rx m::rwx o::r",
		"u::rwx user:7:rw user:7:r g::rx group:7:r group:6: m::rwx o::r",
		"u::rwx g::rx group:7:r o::r",
		"u::rwx g::rx m::rwx o::r",
		"u::rwx g::rx m::rwx m::rwx o::r",
		"g::rx u::rwx o::r",
		"u::rwx g::rx",
		"u::rwx g::rx user:7:r m::r o::r",
		"u::rwx u::rwx g::rx o::r",
		"u::rwx user::rw g::rx m::r o::r",
		"m::rwx",
	].map(acl);
	const much = acl("u::rwx g::rx o::r");
	much.writeUInt16LE(8, 6);
	const tag = acl("u::rwx g::rx o::r");
	tag.writeUInt16LE(3, 4);
	const version = acl("u::rwx g::rx o::r");
	version.writeUInt32LE(1, 0);
	values.push(much, tag, version, Buffer.alloc(0), Buffer.from([2, 0, 0, 0]), Buffer.from([2, 0]), acl("u::rwx").subarray(0, 9));
	const expected: Record<ReturnType<typeof judgeAcl>, number> = {
		valid: 0,
		empty: 0,
		invalid: -ERRNO.EINVAL,
		malformed: -ERRNO.EINVAL,
		"unknown version": -ERRNO.EOPNOTSUPP,
	};
	for (const value of values) {
		const judgement = judgeAcl(value);
		assert.equal(setXattr(fd, ACL_DEFAULT, value), expected[judgement], `${value.toString("hex")} is ${judgement}`);
		if (judgement === "empty") assert.equal(getXattr(fd, ACL_DEFAULT), -ENODATA, "one without entries removes it");
	}
});
