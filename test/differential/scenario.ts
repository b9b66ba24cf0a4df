import fc from "fast-check";

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
	readonly usesThreads: boolean;
}

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
	/** Not in the lowest layer. */
	| { readonly kind: "whiteout"; readonly path: Path }
	/** A second name of a file of this layer, or of the layer below (`cp -al`). */
	| { readonly kind: "link"; readonly path: Path; readonly from: Path; readonly isFromBelow: boolean }
	/** A further name outside of all layers. */
	| { readonly kind: "outside"; readonly path: Path };

/** Extended attributes of a planted object. */
export type Mark = "none" | "user" | "acl" | "capability" | "trusted";

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
	| ({ readonly kind: "mkdir"; readonly mode: number } & On)
	| ({ readonly kind: "rename"; readonly to: Path } & On)
	| ({ readonly kind: "unlink" } & On)
	| ({ readonly kind: "rmdir" } & On)
	| ({ readonly kind: "chmod"; readonly mode: number } & On)
	| ({ readonly kind: "chown"; readonly uid: number; readonly gid: number } & On)
	| ({ readonly kind: "utimes"; readonly seconds: number } & On)
	| ({ readonly kind: "read" } & On)
	| ({ readonly kind: "readdir" } & On)
	| { readonly kind: "restart" };

export function isOn(operation: Operation): operation is Exclude<Operation, { kind: "restart" }> {
	return operation.kind !== "restart";
}

// names say mostly what they are, so that operations meet what they are for, and now and then not
const folderName = fc.oneof({ weight: 10, arbitrary: fc.constantFrom("a", "a", "b") }, { weight: 1, arbitrary: fc.constantFrom("f", "c") });
const fileName = fc.oneof(
	{ weight: 14, arbitrary: fc.constantFrom("f", "f", "f", "g", "g", "h") },
	{ weight: 2, arbitrary: fc.constantFrom("a", "b") },
	{ weight: 1, arbitrary: fc.constantFrom("\xff\xfe", "d".repeat(255)) },
);
const parentPath: fc.Arbitrary<Path> = fc.oneof(
	{ weight: 3, arbitrary: fc.constant([]) },
	{ weight: 5, arbitrary: fc.tuple(folderName) },
	{ weight: 1, arbitrary: fc.tuple(folderName, folderName) },
);
const folderPath: fc.Arbitrary<Path> = fc.tuple(parentPath, folderName).map(([parent, name]) => [...parent, name]);
const filePath: fc.Arbitrary<Path> = fc.tuple(parentPath, fileName).map(([parent, name]) => [...parent, name]);
const path: fc.Arbitrary<Path> = fc.oneof(filePath, folderPath);
const pathOrRoot: fc.Arbitrary<Path> = fc.oneof({ weight: 12, arbitrary: path }, { weight: 1, arbitrary: fc.constant([]) });

const target = fc.constantFrom("a", "nowhere", "/etc/passwd", "..", "x".repeat(300));
const mark = fc.oneof(
	{ weight: 6, arbitrary: fc.constant<Mark>("none") },
	{ weight: 3, arbitrary: fc.constantFrom<Mark>("user", "acl", "capability", "trusted") },
);
const fileMode = fc.constantFrom(0o644, 0o600, 0o755, 0o4755, 0o2755, 0o2644, 0o000);
const directoryMode = fc.constantFrom(0o755, 0o700, 0o1777);
const plantedDirectoryMode = fc.constantFrom(0o755, 0o700, 0o1777, 0o2775);
/** Beyond 65536 the file begins with a hole. */
const size = fc.constantFrom(0, 1, 100, 5000, 70_000);
const uid = fc.constantFrom(0, 1000);

const plantedDirectory = { kind: fc.constant("dir" as const), path: folderPath, mode: plantedDirectoryMode, uid, mark };
const plantStep: fc.Arbitrary<PlantStep> = fc.oneof(
	{ weight: 7, arbitrary: fc.record({ kind: fc.constant("file" as const), path: filePath, size, mode: fileMode, uid, mark }) },
	{ weight: 3, arbitrary: fc.record({ ...plantedDirectory, opaque: fc.constant(false) }) },
	{ weight: 1, arbitrary: fc.record({ ...plantedDirectory, opaque: fc.constant(true) }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("symlink" as const), path: filePath, target }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("fifo" as const), path: filePath, mode: fileMode }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("whiteout" as const), path }) },
	{ weight: 3, arbitrary: fc.record({ kind: fc.constant("link" as const), path: filePath, from: filePath, isFromBelow: fc.boolean() }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("outside" as const), path: filePath }) },
);

const held = fc.boolean();
const on = { path: filePath, held };
const onFolder = { path: folderPath, held };
const onAny = { path: pathOrRoot, held };
const offset = fc.constantFrom(0, 1, 4096, 100_000);
const operation: fc.Arbitrary<Operation> = fc.oneof(
	{ weight: 4, arbitrary: fc.record({ kind: fc.constant("create" as const), ...on, mode: fileMode }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("overwrite" as const), ...on, mode: fileMode }) },
	{
		weight: 5,
		arbitrary: fc.record({
			kind: fc.constant("write" as const),
			...on,
			offset,
			length: fc.constantFrom(1, 10, 5000),
			byte: fc.integer({ min: 65, max: 90 }),
		}),
	},
	{ weight: 3, arbitrary: fc.record({ kind: fc.constant("truncate" as const), ...on, size: fc.constantFrom(0, 1, 50, 6000, 100_000) }) },
	{ weight: 8, arbitrary: fc.record({ kind: fc.constant("link" as const), ...on, to: filePath }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("symlink" as const), ...on, target }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("fifo" as const), ...on, mode: fileMode }) },
	{ weight: 4, arbitrary: fc.record({ kind: fc.constant("mkdir" as const), ...onFolder, mode: directoryMode }) },
	{ weight: 6, arbitrary: fc.record({ kind: fc.constant("rename" as const), ...on, to: filePath }) },
	{ weight: 6, arbitrary: fc.record({ kind: fc.constant("rename" as const), ...onFolder, to: folderPath }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("rename" as const), path, held, to: path }) },
	{ weight: 7, arbitrary: fc.record({ kind: fc.constant("unlink" as const), ...on }) },
	{ weight: 4, arbitrary: fc.record({ kind: fc.constant("rmdir" as const), ...onFolder }) },
	{
		weight: 3,
		arbitrary: fc.record({
			kind: fc.constant("chmod" as const),
			...onAny,
			mode: fc.constantFrom(0o644, 0o755, 0o4711, 0o2770, 0o1777),
		}),
	},
	{
		weight: 3,
		arbitrary: fc.record({
			kind: fc.constant("chown" as const),
			...onAny,
			uid: fc.constantFrom(0, 1000, 2000),
			gid: fc.constantFrom(0, 1000, 2000),
		}),
	},
	{
		weight: 3,
		arbitrary: fc.record({ kind: fc.constant("utimes" as const), ...onAny, seconds: fc.integer({ min: 1, max: 99_999 }) }),
	},
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("read" as const), ...on }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("readdir" as const), ...onAny }) },
	{ weight: 3, arbitrary: fc.constant({ kind: "restart" as const }) },
);

export const scenarios: fc.Arbitrary<Scenario> = fc.noBias(
	fc.record({
		lowers: fc.array(fc.array(plantStep, { maxLength: 20, size: "max" }), { minLength: 1, maxLength: 3 }),
		operations: fc.array(operation, { maxLength: 80, size: "max" }),
		nodesMax: fc.constantFrom(65536, 3),
		checksEach: fc.boolean(),
		usesThreads: fc.nat({ max: 19 }).map((number) => number === 19),
	}),
);

export function showPath(of: Path): string {
	if (of.length === 0) return "/";
	return of
		.map((one) => (one.length > 20 ? `${one[0]}*${one.length}` : one.replace(/[^ -~]/g, (c) => `\\x${c.charCodeAt(0).toString(16)}`)))
		.join("/");
}

const octal = (mode: number) => mode.toString(8).padStart(4, "0");

export function showOperation(one: Operation): string {
	if (!isOn(one)) return one.kind;
	const words: (string | number)[] = [one.kind, showPath(one.path)];
	if ("to" in one) words.push(one.kind === "link" ? "as" : "to", showPath(one.to));
	if ("mode" in one) words.push(octal(one.mode));
	if (one.kind === "write") words.push(`${one.length} bytes at ${one.offset}`);
	if (one.kind === "truncate") words.push("to", one.size);
	if (one.kind === "symlink") words.push("->", showPath([one.target]));
	if (one.kind === "chown") words.push(`${one.uid}:${one.gid}`);
	if (one.kind === "utimes") words.push(one.seconds);
	if (one.held) words.push("(by the handle held)");
	return words.join(" ");
}

function showPlanted(one: PlantStep): string {
	const words: (string | number)[] = [one.kind, showPath(one.path)];
	if (one.kind === "link") words.push("of", showPath(one.from), one.isFromBelow ? "in the layer below" : "");
	if ("mode" in one) words.push(octal(one.mode));
	if (one.kind === "file") words.push(`size ${one.size}`);
	if (one.kind === "symlink") words.push("->", showPath([one.target]));
	if ("uid" in one) words.push(`uid ${one.uid}`);
	if ("mark" in one && one.mark !== "none") words.push(`xattr ${one.mark}`);
	if (one.kind === "dir" && one.opaque) words.push("opaque");
	return words.join(" ").trim();
}

/** For people: the layers and what was done, line by line. */
export function showScenario(scenario: Scenario): string {
	const lines = [
		`objects in memory: ${scenario.nodesMax}; compared after ${scenario.checksEach ? "each operation" : "restarts and at the end"}${scenario.usesThreads ? "; with threads" : ""}`,
	];
	for (const [i, lower] of scenario.lowers.entries()) {
		lines.push(`lower ${i}${i === 0 ? " (top)" : ""}:`, ...lower.map((one) => `    ${showPlanted(one)}`));
	}
	lines.push("operations:", ...scenario.operations.map((one, i) => `    ${i + 1}. ${showOperation(one)}`));
	return lines.join("\n");
}
