import type { TestContext } from "node:test";
import { FREED_SPACE } from "../../src/overlay/engine/freed-space.ts";
import type { Node } from "../../src/overlay/nodes/node.ts";
import { Pending } from "../../src/vfs/errors.ts";
import { type CreateHow, FileType, type SetAttributes } from "../../src/vfs/operations.ts";
import { type Act, bytes, nameOf, parentOf, ROOT, type Run, type Stage } from "./stage.ts";

/** One request, of a world in which the stage's layers are being served. */
export interface Operation {
	readonly name: string;
	readonly run: Run;
	/** Further requests, before the tree "before" is looked at. */
	readonly prepare?: (stage: Stage) => Promise<unknown>;
	/** After a restart: objects are known by their handles, names by nobody. */
	readonly byHandle?: boolean;
	/** Not remembered, as WRITE is not: sent again, it is done again. */
	readonly isRepeatable?: boolean;
	/** The error that it is answered with. */
	readonly error?: string;
}

const done = undefined;
const GUARDED: CreateHow = { mode: "guarded", attributes: { mode: 0o640, uid: 5, gid: 6, size: 7 } };
const at = (act: Act, path: string): Node => act.at(path);

const create =
	(path: string, how: CreateHow = GUARDED): Run =>
	(act) =>
		act.overlay.create(at(act, parentOf(path)), nameOf(path), ROOT, how).object;
const mkdir =
	(path: string): Run =>
	(act) =>
		act.overlay.mkdir(at(act, parentOf(path)), nameOf(path), ROOT, { mode: 0o750, uid: 3 });
const symlink =
	(path: string): Run =>
	(act) =>
		act.overlay.symlink(at(act, parentOf(path)), nameOf(path), ROOT, bytes("to/there"), {});
const mknod =
	(path: string, type: FileType, major = 0, minor = 0): Run =>
	(act) =>
		act.overlay.mknod(at(act, parentOf(path)), nameOf(path), ROOT, type, major, minor, { mode: 0o620 });
const write =
	(path: string): Run =>
	(act) => {
		act.overlay.write(at(act, path), ROOT, 3, bytes("written"));
		return done;
	};
const setattr =
	(path: string, change: SetAttributes): Run =>
	(act) => {
		act.overlay.setattr(at(act, path), ROOT, change);
		return done;
	};
const link =
	(path: string, to: string): Run =>
	(act) => {
		act.overlay.link(at(act, path), at(act, parentOf(to)), nameOf(to), ROOT);
		return done;
	};
const remove =
	(path: string): Run =>
	(act) => {
		act.overlay.remove(at(act, parentOf(path)), nameOf(path), ROOT);
		return done;
	};
const rmdir =
	(path: string): Run =>
	(act) => {
		act.overlay.rmdir(at(act, parentOf(path)), nameOf(path), ROOT);
		return done;
	};
const rename =
	(from: string, to: string): Run =>
	(act) => {
		act.overlay.rename(at(act, parentOf(from)), nameOf(from), at(act, parentOf(to)), nameOf(to), ROOT);
		return done;
	};
const setxattr =
	(path: string, name: string, value: Uint8Array = bytes("value")): Run =>
	(act) => {
		act.overlay.setxattr(at(act, path), ROOT, bytes(name), value);
		return done;
	};
const removexattr =
	(path: string, name: string): Run =>
	(act) => {
		act.overlay.removexattr(at(act, path), ROOT, bytes(name));
		return done;
	};
/** u::rwx user:7:rw- g::r-x m::rwx o::r-- */
const ACL = Buffer.from("0200000001000700ffffffff020006000700000004000500ffffffff10000700ffffffff20000400ffffffff", "hex");
const ACL_ACCESS = "system.posix_acl_access";

/** The guard is the object's ctime from before. */
const guarded = (path: string): Operation => ({
	name: `guarded setattr of ${path}`,
	run: (act) => {
		act.overlay.setattr(at(act, path), ROOT, { mode: 0o611 }, act.ctime(path));
		return done;
	},
});

/** The same for a file that gets smaller by it. */
const guardedCut = (path: string): Operation => ({
	name: `guarded setattr of ${path} with its size`,
	run: (act) => {
		act.overlay.setattr(at(act, path), ROOT, { mode: 0o611, size: 3 }, act.ctime(path));
		return done;
	},
});

const changes =
	(...runs: Run[]) =>
	async (stage: Stage) => {
		for (const run of runs) await stage.change(run);
	};

const ALL: SetAttributes = { mode: 0o4711, uid: 11, gid: 12, size: 2 };
const EMPTY: SetAttributes = { size: 0 };
const TRUNCATE: CreateHow = { mode: "unchecked", attributes: { size: 0 } };

export const OPERATIONS: readonly Operation[] = [
	// create
	{ name: "create in a directory of upper", run: create("pdir/n") },
	{ name: "create in a merged directory", run: create("merged/n") },
	{ name: "create in a lower directory", run: create("d/n") },
	{ name: "create in a lower directory three deep", run: create("d/sub/deep/n") },
	{ name: "create in a lower directory below a moved one", run: create("renamed/sub/n") },
	{ name: "create in a lower directory, by handle", run: create("d/sub/n"), byHandle: true },
	{ name: "create over a whiteout", run: create("white") },
	{ name: "create over a whiteout of a directory", run: create("whited") },
	{ name: "exclusive create", run: create("d/n", { mode: "exclusive", verifier: bytes("verifier") }) },
	{ name: "unchecked create of what is there", run: create("file", { mode: "unchecked", attributes: { mode: 0o600 } }) },
	{ name: "unchecked create that cuts a lower file", run: create("file", TRUNCATE) },
	{ name: "unchecked create that cuts a file of upper", run: create("pure", TRUNCATE) },
	{ name: "unchecked create that cuts a file with several names", run: create("links/two", TRUNCATE) },
	{ name: "guarded create of what is there", run: create("file"), error: "exist" },
	// mkdir, symlink, mknod
	{ name: "mkdir in a directory of upper", run: mkdir("pdir/n") },
	{ name: "mkdir in a merged directory", run: mkdir("merged/n") },
	{ name: "mkdir in a lower directory", run: mkdir("d/n") },
	{ name: "mkdir over a whiteout", run: mkdir("white") },
	{ name: "mkdir over a whiteout of a directory", run: mkdir("whited") },
	{ name: "mkdir over a whiteout in a merged directory", run: mkdir("holes/h1") },
	{ name: "mkdir of what is there", run: mkdir("d"), error: "exist" },
	{ name: "symlink in a lower directory", run: symlink("d/n") },
	{ name: "symlink over a whiteout", run: symlink("white") },
	{ name: "mknod of a fifo", run: mknod("d/n", FileType.fifo) },
	{ name: "mknod of a device over a whiteout", run: mknod("white", FileType.chr, 7, 9) },
	// write
	{ name: "write to a lower file", run: write("file"), isRepeatable: true },
	{ name: "write to a lower file, by handle", run: write("d/sub/deep/leaf"), isRepeatable: true, byHandle: true },
	{ name: "write to a lower file whose name is not known", run: write("renamed/sub/inner"), isRepeatable: true, byHandle: true },
	{ name: "write to a lower file with several names", run: write("links/one"), isRepeatable: true },
	{ name: "write to a lower file with several names, by handle", run: write("links/one"), isRepeatable: true, byHandle: true },
	{ name: "write to a copied up file", run: write("cl/c2"), isRepeatable: true },
	{ name: "write to a file of upper", run: write("pure"), isRepeatable: true },
	{
		name: "write to a lower file of which a name was removed",
		prepare: changes(remove("links/one")),
		run: write("links/two"),
		isRepeatable: true,
	},
	// setattr
	{ name: "setattr of mode, owner and size of a lower file", run: setattr("file", ALL) },
	{ name: "setattr of mode, owner and size of a lower file, by handle", run: setattr("renamed/sub/inner", ALL), byHandle: true },
	{ name: "setattr of mode, owner and size of a lower file with several names", run: setattr("links/two", ALL) },
	{ name: "setattr of mode, owner and size of a file of upper", run: setattr("pure", ALL) },
	{ name: "setattr of mode, owner and size of a copied up file", run: setattr("copied", ALL) },
	{ name: "setattr of a lower directory", run: setattr("d/sub", { mode: 0o711, gid: 4 }) },
	{ name: "setattr of a merged directory", run: setattr("emptym", { mode: 0o711, gid: 4 }) },
	{ name: "setattr of the root", run: setattr("", { mode: 0o711, gid: 4 }) },
	{ name: "setattr of a lower symlink", run: setattr("sym", { uid: 4 }) },
	{ name: "setattr of a lower fifo", run: setattr("pipe", { mode: 0o611 }) },
	guarded("file"),
	guarded("pure"),
	guarded("d"),
	guardedCut("pure"),
	guardedCut("copied"),
	{ name: "truncate a lower file to 0", run: setattr("file", EMPTY) },
	{ name: "truncate a lower file to 0 and set its mode", run: setattr("file", { size: 0, mode: 0o600 }) },
	{ name: "truncate a lower file to 0, by handle", run: setattr("renamed/sub/inner", EMPTY), byHandle: true },
	{ name: "truncate a lower file with several names to 0", run: setattr("links/one", EMPTY) },
	{ name: "truncate a file of upper to 0", run: setattr("pure", EMPTY) },
	{ name: "truncate a copied up file to 0", run: setattr("cl/c2", EMPTY) },
	// extended attributes
	{ name: "setxattr of a lower file", run: setxattr("file", "user.a") },
	{ name: "setxattr of a lower file, by handle", run: setxattr("renamed/sub/inner", "trusted.overlay.a"), byHandle: true },
	{ name: "setxattr of a lower file with several names", run: setxattr("links/one", "user.a") },
	{ name: "setxattr of a lower directory", run: setxattr("d/sub", "trusted.overlay.opaque") },
	{ name: "setxattr of a lower symlink", run: setxattr("sym", "trusted.a") },
	{ name: "setxattr of a file of upper", run: setxattr("pure", "user.a") },
	{ name: "setxattr of a copied up file", prepare: changes(setxattr("copied", "user.a")), run: setxattr("copied", "user.a", bytes("b")) },
	{ name: "setxattr without a name", run: setxattr("file", ""), error: "inval" },
	{ name: "an ACL for a lower file", run: setxattr("file", ACL_ACCESS, ACL) },
	{ name: "an ACL for a file of upper", run: setxattr("pure", ACL_ACCESS, ACL) },
	{ name: "a default ACL for a lower directory", run: setxattr("d/sub", "system.posix_acl_default", ACL) },
	{ name: "remove an ACL", prepare: changes(setxattr("d", ACL_ACCESS, ACL)), run: removexattr("d", ACL_ACCESS) },
	{ name: "removexattr of a lower file", run: removexattr("file", "user.lower") },
	{ name: "removexattr of a lower file, by handle", run: removexattr("d/sub/deep/leaf", "user.lower"), byHandle: true },
	{ name: "removexattr of a file of upper", prepare: changes(setxattr("pure", "user.a")), run: removexattr("pure", "user.a") },
	{ name: "removexattr of what is not there", run: removexattr("file", "user.b"), error: "noattr" },
	// link
	{ name: "link of a file of upper", run: link("pure", "d/n") },
	{ name: "link of a lower file", run: link("file", "d/n") },
	{ name: "link of a lower file with several names", run: link("links/one", "merged/n") },
	{ name: "link of a copied up file", run: link("copied", "merged/n") },
	{ name: "link of a copied up file with several names", run: link("cl/c2", "d/n") },
	{ name: "link of a lower file whose name is not known", run: link("renamed/sub/inner", "pdir/n"), byHandle: true },
	{ name: "link of a lower symlink", run: link("sym", "pdir/n") },
	{ name: "link of a file of upper over a whiteout", run: link("u1", "white") },
	{ name: "link of a lower file over a whiteout", run: link("file", "white") },
	{ name: "link of a copied up file over a whiteout", run: link("cl/c1", "holes/h1") },
	// remove
	{ name: "remove a lower file", run: remove("file") },
	{ name: "remove a lower file three deep", run: remove("d/sub/deep/leaf") },
	{ name: "remove a lower file of the lowest layer in a merged directory", run: remove("merged/bottom") },
	{ name: "remove a file that two lowers have", run: remove("merged/both") },
	{ name: "remove a lower file below a moved directory", run: remove("renamed/sub/inner"), byHandle: true },
	{ name: "remove the first of several names", run: remove("links/one") },
	{ name: "remove the last of several names", prepare: changes(remove("two/a")), run: remove("two/b") },
	{ name: "remove a copied up file", run: remove("copied") },
	{ name: "remove the copied up name of several", run: remove("cl/c1") },
	{ name: "remove the name of a copied up file that only the lower shows", run: remove("cl/c2") },
	{ name: "remove the second name of a copied up file", prepare: changes(remove("cl/c1")), run: remove("cl/c2") },
	{
		name: "remove the last name of a copied up file, one that only the lower shows",
		prepare: changes(remove("twoup/a")),
		run: remove("twoup/b"),
	},
	{
		name: "remove the last name of a copied up file, its own",
		prepare: changes(remove("twoup/b")),
		run: remove("twoup/a"),
	},
	{ name: "remove the last name inside the layer, with one outside", prepare: changes(remove("links/one")), run: remove("links/two") },
	{ name: "remove a file of upper", run: remove("pure") },
	{ name: "remove a file of upper that covers a lower one", run: remove("over") },
	{ name: "remove one of two names of a file of upper", run: remove("u1") },
	{ name: "remove the last name of a file of upper", prepare: changes(remove("u1")), run: remove("u2") },
	{ name: "remove a lower symlink", run: remove("sym") },
	{ name: "remove a lower fifo", run: remove("pipe") },
	{
		name: "remove a copied up file that has no name in upper",
		prepare: async (stage) => {
			const { handle } = stage.find("renamed/sub/inner");
			await stage.restart();
			await stage.settle(() => stage.overlay.write(stage.overlay.decode(handle), ROOT, 0, bytes("INNER")));
		},
		run: remove("renamed/sub/inner"),
	},
	{ name: "remove what is not there", run: remove("white"), error: "noent" },
	// rmdir
	{ name: "rmdir of a lower directory", run: rmdir("empty") },
	{ name: "rmdir of a directory of two lowers", run: rmdir("emptym") },
	{ name: "rmdir of a merged directory with whiteouts in it", run: rmdir("holes") },
	{ name: "rmdir of a directory of upper", run: rmdir("pempty") },
	{ name: "rmdir of a directory of upper that covers a lower one", run: rmdir("overd") },
	{
		name: "rmdir of a moved merged directory with whiteouts in it",
		prepare: changes(rename("holes", "pdir/holes")),
		run: rmdir("pdir/holes"),
	},
	{ name: "rmdir of what is not empty", run: rmdir("d"), error: "notempty" },
	// rename of files
	{ name: "rename a lower file", run: rename("file", "n") },
	{ name: "rename a lower file to another directory", run: rename("d/sub/deep/leaf", "merged/n") },
	{ name: "rename a lower file, by handle", run: rename("renamed/sub/inner", "pdir/n"), byHandle: true },
	{ name: "rename a lower file over a whiteout", run: rename("file", "white") },
	{ name: "rename a lower file over a lower file", run: rename("file", "file2") },
	{ name: "rename a lower symlink", run: rename("sym", "d/n") },
	{ name: "rename a lower file with several names", run: rename("links/one", "pdir/n") },
	{ name: "rename a lower file with several names over itself", run: rename("links/one", "links/two") },
	{ name: "rename a copied up file", run: rename("copied", "pdir/n") },
	{ name: "rename a copied up file by a name that only the lower shows", run: rename("cl/c2", "pdir/n") },
	{ name: "rename a file of upper", run: rename("pure", "d/n") },
	{ name: "rename a file of upper over a whiteout", run: rename("pure", "white") },
	{ name: "rename a file of upper that covers a lower one", run: rename("over", "pdir/n") },
	{ name: "rename a file of upper that covers a lower one over another", run: rename("over", "pure") },
	{ name: "rename a file of upper over a lower file", run: rename("pure", "file") },
	{ name: "rename a file of upper over a file of upper", run: rename("pure", "pure2") },
	{ name: "rename a file of upper over one of two names", run: rename("pure", "u1") },
	{ name: "rename a file of upper over one of several lower names", run: rename("pure", "links/one") },
	{ name: "rename a file of upper over the last of several lower names", prepare: changes(remove("two/a")), run: rename("pure", "two/b") },
	{ name: "rename a file of upper over a copied up file", run: rename("pure", "copied") },
	{ name: "rename a file of upper over the copied up name of several", run: rename("pure", "cl/c1") },
	{ name: "rename a file of upper over a name that only the lower shows", run: rename("pure", "cl/c2") },
	{ name: "rename a lower file over a lower file with several names", run: rename("file", "links/one") },
	// rename of directories
	{ name: "rename a lower directory", run: rename("d", "n") },
	{ name: "rename a lower directory to another parent", run: rename("d/sub", "merged/n") },
	{ name: "rename a merged directory", run: rename("merged", "n") },
	{ name: "rename a merged directory to another parent", run: rename("merged", "pdir/n") },
	{ name: "rename a merged directory into a lower one", run: rename("merged/sub", "d/sub/n") },
	{ name: "rename a moved directory to another parent", run: rename("renamed", "pdir/n") },
	{ name: "rename a moved directory back", run: rename("renamed", "mv") },
	{ name: "rename a lower directory below a moved one", run: rename("renamed/sub", "d/n"), byHandle: true },
	{ name: "rename a lower directory over a whiteout", run: rename("d", "white") },
	{ name: "rename a lower directory over an empty lower directory", run: rename("d", "empty") },
	{ name: "rename a lower directory over an empty merged one", run: rename("d", "emptym") },
	{ name: "rename a lower directory over an empty merged one with whiteouts", run: rename("d", "holes") },
	{ name: "rename a merged directory over one with whiteouts", run: rename("holes2", "holes") },
	{ name: "rename a merged directory over an empty one of upper", run: rename("merged", "pempty") },
	{ name: "rename a directory of upper", run: rename("pdir", "n") },
	{ name: "rename a directory of upper to a lower parent", run: rename("pdir", "d/sub/n") },
	{ name: "rename a directory of upper over a whiteout", run: rename("pdir", "white") },
	{ name: "rename a directory of upper over a whiteout elsewhere", run: rename("pdir", "holes/h1") },
	{ name: "rename a directory of upper that covers a lower one over a whiteout", run: rename("overd", "white") },
	{ name: "rename a directory of upper over an empty one of upper", run: rename("pdir", "pempty") },
	{ name: "rename a directory of upper over an empty lower directory", run: rename("pdir", "empty") },
	{ name: "rename a directory of upper over an empty merged one with whiteouts", run: rename("pdir", "holes") },
	{ name: "rename a directory of upper over one that covers a lower one", run: rename("pdir", "overd") },
	{ name: "rename into itself", run: rename("d", "d/sub/n"), error: "inval" },
];

/** Of a large file that was written to before: its data is copied up in part. */
const settled =
	(path: string): Run =>
	(act) => {
		const { partials } = act.overlay.engine;
		const file = partials?.of(at(act, path)) ?? null;
		if (partials && file !== null) throw new Pending(partials.complete(file));
		return done;
	};

/** Where all lower files count as large. */
export const PARTIAL_OPERATIONS: readonly Operation[] = [
	{ name: "write again to a file copied up in part", run: write("copied"), isRepeatable: true },
	{ name: "cut a file copied up in part", run: setattr("copied", { size: 4 }) },
	{ name: "extend a file copied up in part", run: setattr("copied", { size: 5000 }) },
	{ name: "extend a lower file", run: setattr("file", { size: 5000 }) },
	{ name: "extend a file that was cut", prepare: changes(setattr("file", { size: 4 })), run: setattr("file", { size: 50 }) },
	{
		name: "extend a file copied up in part that was cut",
		prepare: changes(setattr("copied", { size: 4 })),
		run: setattr("copied", { size: 50 }),
	},
	{
		name: "write behind the end of a file that was cut",
		prepare: changes(setattr("cl/c1", { size: 2 })),
		run: write("cl/c2"),
		isRepeatable: true,
	},
	{ name: "write to a file without data", prepare: changes(setattr("file", { mode: 0o600 })), run: write("file"), isRepeatable: true },
	{
		name: "write to a file without data that has moved",
		prepare: changes(rename("file", "pdir/file")),
		run: write("pdir/file"),
		isRepeatable: true,
	},
	{ name: "times of a file copied up in part", run: setattr("copied", { mtime: { sec: 5, nsec: 6 } }) },
	{ name: "complete a file copied up in part", run: settled("copied"), isRepeatable: true },
	{
		name: "complete a file copied up in part that was cut",
		prepare: changes(setattr("copied", { size: 4 })),
		run: settled("copied"),
		isRepeatable: true,
	},
	{ name: "complete a file of several names", run: settled("cl/c2"), isRepeatable: true },
	{ name: "remove a file copied up in part", run: remove("copied") },
	{ name: "rename a file over one copied up in part", run: rename("pure", "copied") },
];

/** Operations whose steps depend on how long the kernel takes to free what they remove. */
export const FREEING = /remove|rmdir|over|trunc|cuts|size|mkdir over/;

/** All that a test removes or cuts takes long to free. */
export function freeSlowly(t: TestContext): void {
	const before = { ...FREED_SPACE };
	Object.assign(FREED_SPACE, { bytesMin: 0, extentsMax: 0, untoldBytesMax: 0 });
	t.after(() => Object.assign(FREED_SPACE, before));
}
