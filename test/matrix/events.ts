import type { SetAttributes } from "../../src/vfs/operations.ts";
import { type Change, create, link, type MadeType, remove, rename, rmdir, setattr, write } from "./change.ts";
import type { Kind } from "./kinds.ts";
import type { Stack } from "./stacks.ts";

/** What happens between taking a handle and using it. A new event is one entry of EVENTS. */
export interface Event {
	readonly name: string;
	/** What a client asks for, one request after another. None: it only looks and reads. */
	changes(kind: Kind, stack: Stack): readonly Change[];
	/** After these: `again` is asked for under other names until a new object has the inode number of one that is gone. */
	readonly again?: (kind: Kind, number: number) => Change;
	/** What upper must show, or the event was not what its name says. */
	readonly mark?: { readonly is: "whiteout" | "opaque"; readonly at: (kind: Kind) => string };
	impossible(kind: Kind, stack: Stack): string | null;
}

type Reason = (kind: Kind, stack: Stack) => string | null;

const always: Reason = () => null;
const notRoot: Reason = ({ path }) => (path === "" ? "the root has no name" : null);
const fileOnly: Reason = ({ type, path }) =>
	path === "" || type === "dir" ? "a directory has no data" : type === "reg" ? null : "it has no data";
const noDirectory: Reason = ({ type }) => (type === "dir" ? "a directory has no further names" : null);
const directoryOnly: Reason = (kind) => notRoot(kind, undefined as never) ?? (kind.type === "dir" ? null : "it is no directory");
const ofLower: Reason = (kind, stack) => notRoot(kind, stack) ?? (kind.isPure ? "no lower has anything that could be covered" : null);
const either =
	(...reasons: Reason[]): Reason =>
	(kind, stack) => {
		for (const reason of reasons) {
			const text = reason(kind, stack);
			if (text !== null) return text;
		}
		return null;
	};

const parent = ({ top }: Kind) => `${top}/g/p`;
const other = ({ top }: Kind) => `${top}/o`;
const removal = (path: string, type: MadeType) => (type === "dir" ? rmdir(path) : remove(path));
/** Takes out all that lies in it. */
const emptying = ({ below }: Kind) => below.map(({ path, type }) => removal(path, type));
/** Takes away all its names. */
const removing = (kind: Kind) => [...emptying(kind), removal(kind.path, kind.type), ...kind.names.map((name) => remove(name))];
const inside = ({ path }: Kind, name: string) => (path === "" ? name : `${path}/${name}`);
const isFileOrDirectory = (type: MadeType) => type === "reg" || type === "dir";
const isDirectory = ({ type }: Kind) => type === "dir";

const keepsOwners: Reason = (_kind, { isPlain }) => (isPlain ? "an ordinary user gives nothing away without --fake-root" : null);
/** Owners where they can be changed, else something that every object has. */
const given = ({ isPlain }: Stack, owner: SetAttributes): SetAttributes => (isPlain ? { mtime: { sec: 1_000_000_000, nsec: 5 } } : owner);

export const EVENTS: readonly Event[] = [
	{ name: "reading", changes: () => [], impossible: always },
	{ name: "write", changes: ({ path }) => [write(path)], impossible: fileOnly },
	{ name: "truncate", changes: ({ path }) => [setattr(path, { size: 3 })], impossible: fileOnly },
	{
		name: "chmod",
		changes: ({ path }) => [setattr(path, { mode: 0o711 })],
		impossible: ({ type }) => (type === "lnk" ? "a symlink has no mode of its own" : null),
	},
	{ name: "chown", changes: ({ path }) => [setattr(path, { uid: 12, gid: 34 })], impossible: keepsOwners },
	{
		name: "utimes",
		changes: ({ path }) => [setattr(path, { atime: { sec: 1_234_567_890, nsec: 9 }, mtime: { sec: 1_234_567_891, nsec: 8 } })],
		impossible: always,
	},
	{
		name: "setxattr",
		changes: ({ path, type }) => [{ does: "setxattr", path, name: isFileOrDirectory(type) ? "user.a" : "trusted.a", value: "value" }],
		impossible: ({ type }, { keeping }) =>
			keeping === "ordinary" && !isFileOrDirectory(type) ? "an ordinary user sets no xattrs on symlinks and devices" : null,
	},
	{
		name: "names come and go in it",
		changes: (kind) => [create(inside(kind, "new")), rename(inside(kind, "new"), inside(kind, "newer")), remove(inside(kind, "newer"))],
		impossible: ({ type }) => (type === "dir" ? null : "it is no directory"),
	},
	{ name: "link", changes: (kind) => [link(kind.path, `${other(kind)}/linked`)], impossible: noDirectory },
	{
		name: "the same object through two names",
		changes: (kind, stack) => {
			const { path, names, type } = kind;
			const second = names[0] ?? `${other(kind)}/linked`;
			return [
				...(names.length > 0 ? [] : [link(path, second)]),
				setattr(second, given(stack, { gid: 7 })),
				...(type === "reg" ? [write(path), write(second, "second")] : []),
			];
		},
		impossible: noDirectory,
	},
	{ name: "rename", changes: (kind) => [rename(kind.path, `${parent(kind)}/renamed`)], impossible: notRoot },
	{ name: "rename to another directory", changes: (kind) => [rename(kind.path, `${other(kind)}/moved`)], impossible: notRoot },
	{
		name: "rename to and fro",
		changes: (kind) => [rename(kind.path, `${other(kind)}/moved`), rename(`${other(kind)}/moved`, kind.path)],
		impossible: notRoot,
	},
	{
		name: "rename of its parent",
		changes: ({ top }) => [rename(`${top}/g/p`, `${top}/g/p2`)],
		impossible: notRoot,
	},
	{
		name: "rename of its grandparent",
		changes: ({ top }) => [rename(`${top}/g`, `${top}/o/g2`)],
		impossible: notRoot,
	},
	{
		name: "rename of a merged directory three above it, then copy up",
		changes: ({ top, path }, stack) => [
			create(`${top}/mine`),
			rename(top, "elsewhere"),
			setattr(`elsewhere${path.slice(top.length)}`, given(stack, { uid: 12 })),
		],
		impossible: notRoot,
	},
	{
		name: "rename over another",
		changes: (kind) => [rename(kind.path, `${other(kind)}/${isDirectory(kind) ? "emptied" : "victim"}`)],
		impossible: notRoot,
	},
	{
		name: "being renamed over",
		changes: (kind) => [...emptying(kind), rename(`${other(kind)}/${isDirectory(kind) ? "movable" : "mover"}`, kind.path)],
		impossible: notRoot,
	},
	{
		name: "exchange",
		changes: (kind) => [{ does: "exchange", path: kind.path, to: `${other(kind)}/${isDirectory(kind) ? "movable" : "mover"}` }],
		impossible: notRoot,
	},
	{
		name: "unlink of one of several names",
		changes: (kind) => [...(kind.names.length > 0 ? [] : [link(kind.path, `${other(kind)}/linked`)]), remove(kind.path)],
		impossible: noDirectory,
	},
	{ name: "unlink of the last name", changes: removing, impossible: either(noDirectory, notRoot) },
	{
		name: "remove and create again",
		changes: (kind) => [...emptying(kind), removal(kind.path, kind.type), create(kind.path, kind.type)],
		impossible: notRoot,
	},
	{
		name: "remove and create with the inode number used again",
		// what lies in a lower alone keeps its number: the number of the copy comes again
		changes: (kind, stack) => [setattr(kind.path, given(stack, { gid: 5 })), ...removing(kind), create(kind.path, kind.type)],
		// a file is made in place, a symlink in work, as a copy is: xfs takes numbers from near the directory
		again: (kind, number) => create(`${parent(kind)}/again`, kind.type === "reg" && number % 2 === 0 ? "lnk" : kind.type),
		impossible: either(notRoot, (_kind, stack) =>
			stack.upper === "tmpfs" || stack.upper === "btrfs" ? `${stack.upper} counts its inode numbers up while it is mounted` : null,
		),
	},
	{
		name: "whiteout over lower",
		changes: removing,
		mark: { is: "whiteout", at: ({ path }) => path },
		impossible: ofLower,
	},
	{
		name: "rmdir and mkdir (opaque over lower)",
		changes: (kind) => [...emptying(kind), rmdir(kind.path), create(kind.path, "dir"), create(`${kind.path}/in`)],
		mark: { is: "opaque", at: ({ path }) => path },
		impossible: either(directoryOnly, ofLower),
	},
	{
		name: "rmdir and mkdir of its parent (opaque over lower)",
		changes: (kind) => [
			...removing(kind).filter(({ path }) => path.startsWith(parent(kind))),
			remove(`${parent(kind)}/sibling`),
			rmdir(parent(kind)),
			create(parent(kind), "dir"),
			create(`${parent(kind)}/s`, kind.type),
		],
		mark: { is: "opaque", at: parent },
		impossible: notRoot,
	},
];
