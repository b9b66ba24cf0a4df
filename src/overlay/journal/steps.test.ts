// Steps on an upper alone: what each makes, and that a recovery behind any of them ends where the whole change does.

import assert from "node:assert/strict";
import { lstatSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { FileHandle } from "../../linux/file-handle.ts";
import { makeNode } from "../../linux/names.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { getXattr, listXattrs, setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { cannotMakeUpper, descriptorsOf, makeUpper, type TestUpper } from "../work/upper-state.test-support.ts";
import { completeSteps, mayUndoWrite, runStep, type Step } from "./steps.ts";

const skip = cannotMakeUpper;

function run(upper: TestUpper, steps: readonly Step[]): void {
	const opened: number[] = [];
	try {
		for (const step of steps) runStep(upper.state, step, descriptorsOf(upper.state, opened));
	} finally {
		for (const fd of opened) close(fd);
	}
}

/** Everything below a folder that a step can change: names, types, inodes, links, owners, modes, sizes, whole times and xattrs. */
function picture(top: string, path = ""): string[] {
	return readdirSync(join(top, path))
		.sort()
		.flatMap((name) => {
			const at = join(path, name);
			const stat = lstatSync(join(top, at));
			const fd = openPath(join(top, at), O.path | O.nofollow);
			const names = listXattrs(fd);
			const xattrs = typeof names === "number" ? [] : names.map((one) => `${one}=${(getXattr(fd, one) as Buffer).toString("hex")}`);
			close(fd);
			const line = [at, stat.mode.toString(8), stat.nlink, stat.uid, stat.gid, stat.size, stat.rdev, ...xattrs.sort()].join(" ");
			return [line, ...(stat.isDirectory() ? picture(top, at) : [])];
		});
}

/** An upper with something of every kind; handles by path. */
function stage(context: TestContext) {
	const upper = makeUpper(context);
	for (const path of ["dir", "other", "hidden"]) mkdirSync(join(upper.upper, path));
	for (const path of ["dir/file", "dir/second", "other/target", "gone"]) writeFileSync(join(upper.upper, path), path);
	writeFileSync(join(upper.work, "work/#built"), "built");
	assert.equal(makeNode(upper.open("upper/hidden", O.rdonly | O.directory), "white", 0o020000, 0, 0), 0);
	const at = (path: string): FileHandle => upper.handle(path);
	return { ...upper, at, root: at("upper"), dir: at("upper/dir"), other: at("upper/other"), file: at("upper/dir/file") };
}

const time = (sec: number) => ({ sec, nsec: 123_000_000 });

type Stage = ReturnType<typeof stage>;

/** Changes as operations put them together, of every kind of step that does not need portable ids. */
const CHANGES: Readonly<Record<string, (on: Stage) => readonly Step[]>> = {
	"a new file": (on) => [
		{
			op: "make",
			in: on.dir,
			name: "new",
			type: FileType.reg,
			mode: 0o4755,
			uid: 7,
			gid: 8,
			size: 100,
			atime: time(5),
			mtime: time(6),
			isOpaque: false,
			id: null,
		},
	],
	"a new directory that hides what lowers have": (on) => [
		{
			op: "make",
			in: on.dir,
			name: "new",
			type: FileType.dir,
			mode: 0o2750,
			uid: 0,
			gid: 9,
			size: 0,
			atime: null,
			mtime: null,
			isOpaque: true,
			id: null,
		},
	],
	"a rename over a file, with a whiteout behind it": (on) => [
		{ op: "move", inode: on.file, from: on.dir, fromName: "file", to: on.other, toName: "target", flags: 0 },
		{ op: "whiteout", in: on.dir, name: "file" },
	],
	"a rename with exchange": (on) => [
		{ op: "move", inode: on.file, from: on.dir, fromName: "file", to: on.other, toName: "target", flags: 2 },
		{ op: "xattr", inode: on.file, name: "trusted.overlay.nlink", value: Buffer.from("U-1") },
	],
	"a copy up": (on) => [
		{ op: "link", inode: on.at("work/work/#built"), to: "index", toName: "00fb" },
		{ op: "move", inode: on.at("work/work/#built"), from: "work", fromName: "#built", to: on.dir, toName: "up", flags: 1 },
		{ op: "xattr", inode: on.at("work/work/#built"), name: "trusted.overlay.nlink", value: Buffer.from("U+1") },
		{ op: "times", inode: on.dir, atime: time(1), mtime: time(2) },
	],
	"a removal": (on) => [
		{ op: "unlink", in: on.root, name: "gone", inode: on.at("upper/gone") },
		{ op: "count", entry: "00aa", value: 3 },
		{ op: "unnamed", entry: "00bb", value: true },
	],
	"the last removal of a lower file": (on) => [
		{ op: "whiteout", in: on.root, name: "gone" },
		{ op: "whiteout", in: "index", name: "00aa" },
		{ op: "count", entry: "00aa", value: null },
		{ op: "unnamed", entry: "00aa", value: false },
	],
	"the removal of a directory that holds only whiteouts": (on) => [
		{ op: "unlink", in: on.root, name: "hidden", inode: on.at("upper/hidden") },
	],
	"a whiteout in the place of a directory": (on) => [{ op: "whiteout", in: on.root, name: "hidden" }],
	"a whiteout that goes": (on) => [{ op: "unlinkWhiteout", in: on.at("upper/hidden"), name: "white" }],
	"all attributes at once": (on) => [
		{
			op: "attributes",
			inode: on.file,
			type: FileType.reg,
			change: {
				size: 3,
				uid: 5,
				gid: 6,
				mode: 0o6711,
				atime: time(8),
				mtime: time(9),
				xattr: { name: Buffer.from("user.a"), value: Buffer.from("v") },
			},
		},
	],
	"an xattr that goes": (on) => [
		{
			op: "attributes",
			inode: on.at("upper/dir/second"),
			type: FileType.reg,
			change: { xattr: { name: Buffer.from("user.b"), value: null } },
		},
	],
};

for (const [name, change] of Object.entries(CHANGES)) {
	test(`${name}: a recovery behind any of its steps ends as the whole change`, { skip }, (t) => {
		const prepare = () => {
			const on = stage(t);
			setXattr(on.open("upper/dir/second", O.path), "user.b", Buffer.from("b"));
			return on;
		};
		const whole = prepare();
		run(whole, change(whole));
		whole.state.work.clean();
		const expected = picture(whole.disk);
		const untouched = prepare();
		assert.notDeepEqual(picture(untouched.disk), expected, "the change shows");
		const count = change(untouched).length;
		for (let made = 0; made <= count; made++) {
			const on = prepare();
			const steps = change(on);
			run(on, steps.slice(0, made));
			completeSteps(on.state, steps);
			on.state.work.clean();
			assert.deepEqual(picture(on.disk), expected, `after ${made} of ${count} steps`);
			completeSteps(on.state, steps);
			on.state.work.clean();
			assert.deepEqual(picture(on.disk), expected, `recovered twice after ${made} of ${count} steps`);
		}
	});
}

test("a step that cannot be made throws the error of its system call, and a new object that cannot be finished is not left", {
	skip,
}, (t) => {
	const on = stage(t);
	const before = picture(on.upper);
	const code = (expected: string) => (error: unknown) => error instanceof OverlayError && error.code === expected;
	const taken: Step = { op: "move", inode: on.file, from: on.dir, fromName: "file", to: on.other, toName: "target", flags: 1 };
	assert.throws(() => run(on, [taken]), code("exist"));
	assert.throws(() => run(on, [{ op: "link", inode: on.file, to: on.other, toName: "n".repeat(256) }]), code("nametoolong"));
	assert.throws(() => run(on, [{ op: "unlink", in: on.dir, name: "none", inode: on.file }]), code("noent"));
	const late: Step = {
		op: "make",
		in: on.dir,
		name: "late",
		type: FileType.reg,
		mode: 0o644,
		uid: 0,
		gid: 0,
		size: 0,
		// no such time: the last thing that is set
		atime: { sec: 1, nsec: 2_000_000_000 },
		mtime: null,
		isOpaque: false,
		id: null,
	};
	assert.throws(() => run(on, [late]), OverlayError);
	assert.deepEqual(picture(on.upper), before);
});

test("only a step that a later write would contradict keeps a change from being repeated", { skip }, (t) => {
	const on = stage(t);
	const other = on.at("upper/dir/second");
	const attributes: Step = { op: "attributes", inode: on.file, type: FileType.reg, change: { size: 0 } };
	assert.equal(mayUndoWrite(attributes, on.file), true);
	assert.equal(mayUndoWrite(attributes, other), false);
	assert.equal(mayUndoWrite({ op: "link", inode: on.file, to: on.dir, toName: "x" }, on.file), false);
});
