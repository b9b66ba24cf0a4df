// Redirects of directories that move, on an upper without an overlay: what is written where, and that a look-up follows it.

import assert from "node:assert/strict";
import { mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { RecentMap } from "../../collections/recent-map.ts";
import { ROOT_HOME } from "../../handle/wire-handle.ts";
import { LayerOpener, TRUSTED_XATTRS } from "../../layer/layer.ts";
import { DescriptorCache, Real } from "../../layer/real.ts";
import { O } from "../../linux/open.ts";
import { getXattr } from "../../linux/xattr.ts";
import { FileType } from "../../vfs/operations.ts";
import { Turns } from "../engine/turns.ts";
import { findInReals, type StackContext } from "../lookup/stack-search.ts";
import { Node } from "../nodes/node.ts";
import { cannotMakeUpper, makeUpper } from "../work/upper-state.test-support.ts";
import { setRedirect } from "./move-redirect.ts";

const skip = cannotMakeUpper;
const HOME = 1;

/** The same directories in upper and in one lower, with a Node for each path. */
function stage(t: TestContext, ...paths: readonly string[]) {
	const made = makeUpper(t);
	const lowerTop = join(made.disk, "lower");
	mkdirSync(lowerTop);
	for (const path of paths) for (const top of [made.upper, lowerTop]) mkdirSync(join(top, path), { recursive: true });
	const lower = new LayerOpener(TRUSTED_XATTRS).openLower(lowerTop);
	t.after(() => lower.close());
	const upper = made.state.layer;
	const descriptors = new DescriptorCache(100);
	const roots = [upper, lower].map((layer) => new Real(layer, layer.rootHandle, layer.rootStat.inoHi, layer.rootStat.inoLo, false));
	const context: StackContext = {
		xattr: TRUSTED_XATTRS,
		descriptors,
		patience: null,
		nodes: { root: { reals: roots } },
		writable: made.state,
		memory: { now: 0 },
		turns: new Turns({ keep: () => {} }),
		walks: new RecentMap(),
	};
	const nodeOf = (path: string, home: number, reals: Real[], parent: Node | null) => {
		const id = reals[0].handle;
		const node = new Node({ type: FileType.dir, handle: id.bytes, key: path, home, id, fileidHi: 0, fileidLo: 0, reals });
		node.parent = parent;
		node.name = Buffer.from(path.slice(path.lastIndexOf("/") + 1));
		return node;
	};
	const root = nodeOf("", ROOT_HOME, roots, null);
	const node = (path: string): Node => {
		const parent = path.includes("/") ? node(path.slice(0, path.lastIndexOf("/"))) : root;
		const reals = findInReals(context, parent.reals, Buffer.from(path.slice(path.lastIndexOf("/") + 1)));
		assert.ok(reals !== null, path);
		return nodeOf(path, HOME, reals, parent);
	};
	const upwards = (from: Node) => {
		const all: Node[] = [];
		for (let at: Node | null = from; at !== null; at = at.parent) all.push(at);
		return all;
	};
	/** Marks and moves a directory as a rename does; its redirect, and the layers that it has its parts in then. */
	const move = (from: string, to: string) => {
		const source = node(from);
		const entry = (path: string) => ({
			directory: path.includes("/") ? node(path.slice(0, path.lastIndexOf("/"))) : root,
			name: Buffer.from(path.slice(path.lastIndexOf("/") + 1)),
		});
		const [before, after] = [entry(from), entry(to)];
		const isSame = before.directory.key === after.directory.key;
		setRedirect(context, before, isSame ? { ...after, directory: before.directory } : after, source, upwards(source));
		renameSync(join(made.upper, from), join(made.upper, to));
		const fd = made.open(`upper/${to}`, O.path);
		const value = getXattr(fd, TRUSTED_XATTRS.redirect);
		const long = made.state.longRedirects.get(fd);
		const reals = findInReals(context, entry(to).directory.reals, entry(to).name) ?? [];
		return {
			redirect: typeof value === "number" ? null : value.toString(),
			long: long?.toString() ?? null,
			layers: reals.map(({ layer }) => (layer.isUpper ? "upper" : "lower")),
		};
	};
	return { move };
}

test("inside its parent a directory is found by its old name", { skip }, (t) => {
	const { move } = stage(t, "a/dir");
	assert.deepEqual(move("a/dir", "a/new"), { redirect: "dir", long: null, layers: ["upper", "lower"] });
	assert.deepEqual(
		move("a/new", "a/newer"),
		{ redirect: "dir", long: null, layers: ["upper", "lower"] },
		"moved again, it keeps the name in lowers",
	);
});

test("elsewhere it is found by its path from the root of the lowers, and keeps that path ever after", { skip }, (t) => {
	const { move } = stage(t, "a/b/dir", "other");
	assert.deepEqual(move("a/b/dir", "other/new"), { redirect: "/a/b/dir", long: null, layers: ["upper", "lower"] });
	assert.deepEqual(move("other/new", "last"), { redirect: "/a/b/dir", long: null, layers: ["upper", "lower"] });
});

test("a path goes by the names that its directories have in lowers, whether they have moved inside or elsewhere", { skip }, (t) => {
	const { move } = stage(t, "a/b/dir", "a/c/dir", "other");
	move("a/b", "a/renamed");
	assert.equal(move("a/renamed/dir", "other/one").redirect, "/a/b/dir");
	move("a/c", "other/away");
	assert.deepEqual(move("other/away/dir", "two"), { redirect: "/a/c/dir", long: null, layers: ["upper", "lower"] });
});

test("a redirect to a name gives way to a path when the directory leaves its parent", { skip }, (t) => {
	const { move } = stage(t, "a/dir", "other");
	assert.equal(move("a/dir", "a/new").redirect, "dir");
	assert.deepEqual(move("a/new", "other/new"), { redirect: "/a/dir", long: null, layers: ["upper", "lower"] });
});
