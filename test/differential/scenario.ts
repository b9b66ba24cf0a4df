import { CAPABILITY, posixAcl } from "./xattr-values.ts";

/** What a differential run does: the lowers, the operations on the union of them, and how holdfast is set up. Plain data, so that it can shrink and be printed. */
export interface Scenario {
	/** From the topmost lower down. */
	readonly lowers: readonly (readonly PlantStep[])[];
	readonly operations: readonly Operation[];
	/** Objects that holdfast may keep in memory between two operations. */
	readonly nodesMax: number;
	/** Both trees and all handles are compared after each operation: finds more precisely, but keeps the caches warm. */
	readonly checksEach: boolean;
	/** Copies and flushes run on threads, as in a server; else on the main thread, which is much faster. */
	/** All lower files count as large ones. */
	readonly copiesInParts: boolean;
	readonly usesThreads: boolean;
	/** Where a rig has several file systems: those of upper, and of the lowers from the topmost down. */
	readonly fileSystems: readonly FileSystemName[];
}

/** File systems of a rig that has several. */
export const FILE_SYSTEMS = ["ext4", "xfs", "tmpfs", "ext4-2"] as const;
export type FileSystemName = (typeof FILE_SYSTEMS)[number];

/** Names from the root down, each byte a character of it (latin1). */
export type Path = readonly string[];

/** One thing that is put into a lower; a step that does not fit what is there already does nothing. Missing folders above are made. */
export type PlantStep =
	| { readonly kind: "file"; readonly path: Path; readonly size: number; readonly mode: number; readonly uid: number; readonly mark: Mark }
	| {
			readonly kind: "dir";
			readonly path: Path;
			readonly mode: number;
			readonly uid: number;
			readonly mark: Mark;
			readonly opaque: boolean;
	  }
	| { readonly kind: "symlink"; readonly path: Path; readonly target: string }
	| { readonly kind: "fifo"; readonly path: Path; readonly mode: number }
	| { readonly kind: "device"; readonly path: Path; readonly device: Device }
	/** Not in the lowest layer. */
	| { readonly kind: "whiteout"; readonly path: Path }
	/** A second name of a file of this layer, or of the layer below (`cp -al`). */
	| { readonly kind: "link"; readonly path: Path; readonly from: Path; readonly isFromBelow: boolean }
	/** A further name outside of all layers. */
	| { readonly kind: "outside"; readonly path: Path };

/** Extended attributes of a planted object; "escaped": those that an overlay on top of this one would keep there. */
export type Mark = "none" | "user" | "acl" | "capability" | "trusted" | "escaped";

export interface Device {
	readonly type: "chr" | "blk";
	readonly major: number;
	readonly minor: number;
}

export const XATTR_VALUES = {
	empty: Buffer.alloc(0),
	short: Buffer.from("short"),
	other: Buffer.from("other value"),
	long: Buffer.alloc(300, 0x61),
	/** More than ext4 has room for. */
	huge: Buffer.alloc(5000, 0x62),
	y: Buffer.from("y"),
	capability: CAPABILITY,
	"acl of a user": posixAcl("u::7 u:1000:6 g::5 m::7 o::4"),
	"acl of a group": posixAcl("u::6 g::4 g:1000:7 m::5 o::0"),
	/** Says no more than a mode. */
	"acl of a mode": posixAcl("u::6 g::4 o::4"),
	"acl without mask": posixAcl("u::7 u:1000:6 g::5 o::4"),
} as const;
export type XattrValue = keyof typeof XATTR_VALUES;

interface On {
	readonly path: Path;
	/** Holdfast is asked by the handle that was given out when the object (or the folder that holds the name) was first seen, not by a walk. */
	readonly held: boolean;
}

export type Operation =
	| ({ readonly kind: "create"; readonly mode: number } & On)
	/** As open(2) with O_CREAT and O_TRUNC. */
	| ({ readonly kind: "overwrite"; readonly mode: number } & On)
	| ({ readonly kind: "write"; readonly offset: number; readonly length: number; readonly byte: number } & On)
	| ({ readonly kind: "truncate"; readonly size: number } & On)
	| ({ readonly kind: "link"; readonly to: Path } & On)
	| ({ readonly kind: "symlink"; readonly target: string } & On)
	| ({ readonly kind: "fifo"; readonly mode: number } & On)
	| ({ readonly kind: "device"; readonly mode: number; readonly device: Device } & On)
	| ({ readonly kind: "mkdir"; readonly mode: number } & On)
	| ({ readonly kind: "rename"; readonly to: Path } & On)
	/** Both names change places (RENAME_EXCHANGE). */
	| ({ readonly kind: "exchange"; readonly to: Path } & On)
	| ({ readonly kind: "unlink" } & On)
	| ({ readonly kind: "rmdir" } & On)
	| ({ readonly kind: "chmod"; readonly mode: number } & On)
	| ({ readonly kind: "chown"; readonly uid: number; readonly gid: number } & On)
	| ({ readonly kind: "utimes"; readonly seconds: number } & On)
	| ({ readonly kind: "setxattr"; readonly name: string; readonly value: XattrValue; readonly mode: "any" | "create" | "replace" } & On)
	| ({ readonly kind: "removexattr"; readonly name: string } & On)
	| ({ readonly kind: "read" } & On)
	| ({ readonly kind: "readdir" } & On)
	| { readonly kind: "restart" }
	/** The kernel takes the layers over, or mounts them anew. */
	| { readonly kind: "toKernel"; readonly mount: MountKind }
	| { readonly kind: "toHoldfast" };

/** How the kernel mounts in a run that hands the layers to and fro: see `Rig.mountOptions`. */
export const MOUNT_KINDS = [
	"as always",
	"without nfs_export",
	"metacopy",
	"without index",
	"without index, metacopy",
	"without redirects",
] as const;
export type MountKind = (typeof MOUNT_KINDS)[number];

export type Change = Exclude<Operation, { kind: "restart" | "toKernel" | "toHoldfast" }>;

export function isOn(operation: Operation): operation is Change {
	return operation.kind !== "restart" && operation.kind !== "toKernel" && operation.kind !== "toHoldfast";
}

export function showPath(of: Path): string {
	if (of.length === 0) return "/";
	return of
		.map((one) => (one.length > 20 ? `${one[0]}*${one.length}` : one.replace(/[^ -~]/g, (c) => `\\x${c.charCodeAt(0).toString(16)}`)))
		.join("/");
}

const showDevice = ({ type, major, minor }: Device) => `${type} ${major}:${minor}`;
const octal = (mode: number) => mode.toString(8).padStart(4, "0");

export function showOperation(one: Operation): string {
	if (one.kind === "toKernel") return `the kernel takes over, ${one.mount}`;
	if (one.kind === "toHoldfast") return "holdfast takes over";
	if (!isOn(one)) return one.kind;
	const words: (string | number)[] = [one.kind, showPath(one.path)];
	if ("to" in one) words.push(one.kind === "link" ? "as" : one.kind === "exchange" ? "with" : "to", showPath(one.to));
	if ("mode" in one && typeof one.mode === "number") words.push(octal(one.mode));
	if ("device" in one) words.push(showDevice(one.device));
	if ("name" in one) words.push(one.name);
	if (one.kind === "setxattr") words.push("=", one.value, one.mode === "any" ? "" : `(${one.mode})`);
	if (one.kind === "write") words.push(`${one.length} bytes at ${one.offset}`);
	if (one.kind === "truncate") words.push("to", one.size);
	if (one.kind === "symlink") words.push("->", showPath([one.target]));
	if (one.kind === "chown") words.push(`${one.uid}:${one.gid}`);
	if (one.kind === "utimes") words.push(one.seconds);
	if (one.held) words.push("(by the handle held)");
	return words.filter((word) => word !== "").join(" ");
}

function showPlanted(one: PlantStep): string {
	const words: (string | number)[] = [one.kind, showPath(one.path)];
	if (one.kind === "link") words.push("of", showPath(one.from), one.isFromBelow ? "in the layer below" : "");
	if ("mode" in one) words.push(octal(one.mode));
	if (one.kind === "file") words.push(`size ${one.size}`);
	if (one.kind === "symlink") words.push("->", showPath([one.target]));
	if (one.kind === "device") words.push(showDevice(one.device));
	if ("uid" in one) words.push(`uid ${one.uid}`);
	if ("mark" in one && one.mark !== "none") words.push(`xattr ${one.mark}`);
	if (one.kind === "dir" && one.opaque) words.push("opaque");
	return words.join(" ").trim();
}

/** For people: the layers and what was done, line by line. */
export function showScenario(scenario: Scenario): string {
	const lines = [
		`file systems, where the rig has several: ${scenario.fileSystems.join(", ")}`,
		`objects in memory: ${scenario.nodesMax}; compared after ${scenario.checksEach ? "each operation" : "restarts and at the end"}${scenario.copiesInParts ? "; copied up in parts" : ""}${scenario.usesThreads ? "; with threads" : ""}`,
	];
	for (const [i, lower] of scenario.lowers.entries()) {
		lines.push(`lower ${i}${i === 0 ? " (top)" : ""}:`, ...lower.map((one) => `    ${showPlanted(one)}`));
	}
	lines.push("operations:", ...scenario.operations.map((one, i) => `    ${i + 1}. ${showOperation(one)}`));
	return lines.join("\n");
}
