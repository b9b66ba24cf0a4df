// Look-up of a name in a stack of layers, without an overlay: what hides what, what is merged, and where redirects lead.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { plant, type TreeDescription } from "../../../test/support/lower-tree.ts";
import { RecentMap } from "../../collections/recent-map.ts";
import { type Layer, LayerOpener, TRUSTED_XATTRS } from "../../layer/layer.ts";
import { DescriptorCache, Real } from "../../layer/real.ts";
import { close, O, openPath } from "../../linux/open.ts";
import { setXattr } from "../../linux/xattr.ts";
import { OverlayError } from "../../vfs/errors.ts";
import { FileType } from "../../vfs/operations.ts";
import { Turns } from "../engine/turns.ts";
import { cannotMakeUpper, makeUpper } from "../work/upper-state.test-support.ts";
import { closeAll, findInReals, findReals, readRootMarks, type StackContext, searchStack } from "./stack-search.ts";

const skip = cannotMakeUpper;

/** A tree, and the overlay xattrs of its paths ("" is its root). */
interface LayerDescription {
	readonly tree: TreeDescription;
	readonly marks?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

const WHITEOUT = { node: ["c", "0", "0"] } as const;

/** An upper over lowers, from the topmost down. */
function stackOf(context: TestContext, upper: LayerDescription, ...lowers: readonly LayerDescription[]) {
	const made = makeUpper(context);
	const opener = new LayerOpener(TRUSTED_XATTRS);
	const dress = (top: string, { tree, marks = {} }: LayerDescription) => {
		plant(top, tree);
		for (const [path, xattrs] of Object.entries(marks)) {
			const fd = openPath(join(top, path), O.path);
			for (const [name, value] of Object.entries(xattrs)) {
				assert.equal(setXattr(fd, `trusted.overlay.${name}`, Buffer.from(value)), 0);
			}
			close(fd);
		}
	};
	dress(made.upper, upper);
	const layers: Layer[] = [made.state.layer];
	for (const [i, lower] of lowers.entries()) {
		const top = join(made.disk, `lower${i}`);
		mkdirSync(top);
		dress(top, lower);
		const layer = opener.openLower(top);
		context.after(() => layer.close());
		layers.push(layer);
	}
	const descriptors = new DescriptorCache(1000);
	const reals: Real[] = [];
	const stack: StackContext = {
		xattr: TRUSTED_XATTRS,
		descriptors,
		patience: null,
		nodes: { root: { reals } },
		writable: made.state,
		memory: { now: 0 },
		turns: new Turns({ keep: () => {} }),
		walks: new RecentMap(),
	};
	for (const layer of layers) {
		const root = new Real(layer, layer.rootHandle, layer.rootStat.inoHi, layer.rootStat.inoLo, false);
		readRootMarks(root);
		reals.push(root);
	}
	const nameOf = (real: Real) => (real.layer.isUpper ? "upper" : `lower${layers.indexOf(real.layer) - 1}`);
	/** The layers that a path has its parts in, from the topmost down, or what there is none for. */
	const find = (path: string): string[] | string => {
		let parents: readonly Real[] = reals;
		const names = path.split("/").map((name) => Buffer.from(name));
		for (const name of names.slice(0, -1)) parents = findInReals(stack, parents, name) ?? [];
		const found = searchStack(stack, { reals: parents }, names.at(-1) as Buffer, 0);
		if (typeof found === "string") return found;
		closeAll(found);
		return found.reals.map(nameOf);
	};
	return { stack, reals, layers, find };
}

test("the topmost object has the name; directories are merged down to the first thing that is none", { skip }, (t) => {
	const { find, stack, reals } = stackOf(
		t,
		{ tree: { "dir/up": "u", file: "u", "over/": "" } },
		{ tree: { "dir/mid": "m", file: "m", over: "a file", only: { link: "nowhere" } } },
		{ tree: { "dir/low": "l", "over/": "", only: "hidden" } },
	);
	assert.deepEqual(find("dir"), ["upper", "lower0", "lower1"]);
	assert.deepEqual(find("file"), ["upper"]);
	assert.deepEqual(find("over"), ["upper"], "a file below ends what is merged");
	assert.deepEqual(find("only"), ["lower0"], "a link is not followed");
	assert.deepEqual([find("dir/up"), find("dir/mid"), find("dir/low")], [["upper"], ["lower0"], ["lower1"]]);
	assert.equal(find("none"), "none");
	assert.equal(find("dir/none"), "none");
	const found = findReals(stack, { reals }, Buffer.from("dir"), 1);
	assert.equal(found?.reals.length, 2, "from the second layer on");
	assert.equal(found?.stat.type, FileType.dir);
	if (found !== null) closeAll(found);
});

test("a whiteout hides what lies below it, and only one in upper is told", { skip }, (t) => {
	const { find } = stackOf(
		t,
		{ tree: { gone: WHITEOUT, "dir/gone": WHITEOUT } },
		{ tree: { gone: "m", "dir/gone": "m", middle: WHITEOUT, "open/": "" } },
		{ tree: { middle: "l", "dir/low": "l", open: WHITEOUT } },
		{ tree: { "open/deep": "d" } },
	);
	assert.equal(find("gone"), "whiteout");
	assert.equal(find("dir/gone"), "whiteout");
	assert.equal(find("middle"), "none", "whatever a lower says, upper has nothing there");
	assert.deepEqual(find("dir"), ["upper", "lower0", "lower1"]);
	assert.deepEqual(find("open"), ["lower0"], "a whiteout between two directories parts them");
});

test("an empty file with the xattr is a whiteout only in a directory that says so", { skip }, (t) => {
	const white = { whiteout: "y" };
	const { find } = stackOf(
		t,
		{
			tree: { "x/gone": "", "x/full": "not empty", "plain/gone": "" },
			marks: { x: { opaque: "x" }, "x/gone": white, "x/full": white, "plain/gone": white },
		},
		{ tree: { "x/gone": "l", "x/full": "l", "x/low": "l", "plain/gone": "l" } },
	);
	assert.deepEqual(find("x"), ["upper", "lower0"], "that directory hides nothing by itself");
	assert.equal(find("x/gone"), "whiteout");
	assert.deepEqual(find("x/full"), ["upper"]);
	assert.deepEqual(find("x/low"), ["lower0"]);
	assert.deepEqual(find("plain/gone"), ["upper"]);
});

test("an opaque directory ends the stack", { skip }, (t) => {
	const { find } = stackOf(
		t,
		{ tree: { "top/": "", "open/": "" }, marks: { top: { opaque: "y" } } },
		{ tree: { "top/f": "m", "open/": "" }, marks: { open: { opaque: "y" } } },
		{ tree: { "top/g": "l", "open/g": "l" } },
	);
	assert.deepEqual(find("top"), ["upper"]);
	assert.equal(find("top/f"), "none");
	assert.deepEqual(find("open"), ["upper", "lower0"]);
	assert.equal(find("open/g"), "none");
});

test("a redirect by a name goes on under that name, a redirect by a path from the roots of the layers below", { skip }, (t) => {
	const { find } = stackOf(
		t,
		{
			tree: { "renamed/": "", "here/moved/": "", old: WHITEOUT, "a/b": WHITEOUT, "a/": "" },
			marks: { renamed: { redirect: "old" }, "here/moved": { redirect: "/a/b" } },
		},
		{ tree: { "old/m": "m", "a/b/m": "m", "renamed/other": "m" } },
		{ tree: { "old/l": "l", "a/b/l": "l", "here/moved/other": "l" } },
	);
	assert.deepEqual(find("renamed"), ["upper", "lower0", "lower1"]);
	assert.deepEqual(find("renamed/l"), ["lower1"]);
	assert.equal(find("renamed/other"), "none", "what a lower has under the new name is hidden");
	assert.deepEqual(find("here/moved"), ["upper", "lower0", "lower1"]);
	assert.deepEqual(find("here/moved/m"), ["lower0"]);
	assert.equal(find("here/moved/other"), "none");
	assert.equal(find("old"), "whiteout");
});

test("on the way of a path each directory may hide, end or turn it", { skip }, (t) => {
	const moved = (redirect: string) => ({ tree: { "at/": "" }, marks: { at: { redirect } } });
	const through = (lower: LayerDescription) =>
		stackOf(t, moved("/a/b/c"), lower, { tree: { "a/b/c/low": "l", "z/c/turned": "t" } }).find("at");
	assert.deepEqual(through({ tree: { "a/b/": "" } }), ["upper", "lower1"], "a layer without it is passed over");
	assert.deepEqual(through({ tree: { a: WHITEOUT } }), ["upper"], "a whiteout on the way");
	assert.deepEqual(through({ tree: { "a/b": "a file" } }), ["upper"], "a file on the way");
	assert.deepEqual(through({ tree: { "a/": "" }, marks: { a: { opaque: "y" } } }), ["upper"], "an opaque directory on the way");
	assert.deepEqual(
		through({ tree: { "a/b/c/m": "m" }, marks: { a: { opaque: "y" } } }),
		["upper", "lower0"],
		"it shows what it has itself",
	);
});

test("a lower's redirect is followed once that layer was adopted, and an error before", { skip }, (t) => {
	const lowers = [{ tree: { "new/": "" }, marks: { new: { redirect: "old" } } }, { tree: { "old/l": "l" } }];
	const { find, layers } = stackOf(t, { tree: {} }, ...lowers);
	assert.throws(() => find("new"), { code: "io" });
	layers[1].isAdopted = true;
	assert.deepEqual(find("new"), ["lower0", "lower1"]);
});

test("what no overlay wrote as a redirect is an error and leads nowhere", { skip }, (t) => {
	for (const redirect of ["", "..", "/", "a/b", "/a/../b"]) {
		const { find } = stackOf(t, { tree: { "at/": "" }, marks: { at: { redirect } } }, { tree: { "a/b/c": "x" } });
		assert.throws(() => find("at"), OverlayError, JSON.stringify(redirect));
	}
});

test("a redirect that lies in work counts as one in an xattr does", { skip }, (t) => {
	const name = "n".repeat(200);
	const path = Array.from({ length: 15 }, () => name).join("/");
	const { find, stack, layers } = stackOf(t, { tree: { "at/": "" } }, { tree: { [`${path}/`]: "" } });
	const { handles, root } = layers[0];
	const handle = handles.at(root, "at");
	assert.ok(typeof handle !== "number");
	assert.deepEqual(find("at"), ["upper"]);
	stack.writable?.longRedirects.set(handle, Buffer.from(`/${path}`));
	assert.deepEqual(find("at"), ["upper", "lower0"]);
});

test("no descriptor is left open, by what is found, hidden, or an error", { skip }, (t) => {
	const { find } = stackOf(
		t,
		{ tree: { "dir/": "", gone: WHITEOUT, "bad/": "" }, marks: { bad: { redirect: "/x/" } } },
		{ tree: { "dir/": "", gone: "m", file: "m", "bad/": "" } },
	);
	const paths = ["dir", "gone", "file", "none", "bad"];
	const look = () => {
		for (const path of paths) {
			try {
				find(path);
			} catch (error) {
				assert.ok(error instanceof OverlayError);
			}
		}
	};
	look();
	const before = readdirSync("/proc/self/fd").length;
	for (let i = 0; i < 20; i++) look();
	assert.equal(readdirSync("/proc/self/fd").length, before);
});
