import { fc } from "../support/fast-check.ts";
import {
	FILE_SYSTEMS,
	type Mark,
	MOUNT_KINDS,
	type Operation,
	type Path,
	type PlantStep,
	type Scenario,
	type XattrValue,
} from "./scenario.ts";

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
	{ weight: 3, arbitrary: fc.constantFrom<Mark>("user", "acl", "capability", "trusted", "escaped") },
);
const fileMode = fc.constantFrom(0o644, 0o600, 0o755, 0o4755, 0o2755, 0o2644, 0o000);
const directoryMode = fc.constantFrom(0o755, 0o700, 0o1777);
const plantedDirectoryMode = fc.constantFrom(0o755, 0o700, 0o1777, 0o2775);
/** Beyond 65536 the file begins with a hole. */
const size = fc.constantFrom(0, 1, 100, 5000, 70_000);
const uid = fc.constantFrom(0, 1000);

const device = fc.record({
	type: fc.constantFrom("chr" as const, "blk" as const),
	major: fc.constantFrom(1, 7),
	minor: fc.constantFrom(3, 300),
});
/** A character device 0:0 would be a whiteout. */
const anyDevice = fc.oneof(
	{ weight: 3, arbitrary: device },
	{
		weight: 1,
		arbitrary: fc.record({ type: fc.constantFrom("chr" as const, "blk" as const), major: fc.constant(0), minor: fc.constant(0) }),
	},
);

const plantedDirectory = { kind: fc.constant("dir" as const), path: folderPath, mode: plantedDirectoryMode, uid, mark };
const plantStep: fc.Arbitrary<PlantStep> = fc.oneof(
	{ weight: 7, arbitrary: fc.record({ kind: fc.constant("file" as const), path: filePath, size, mode: fileMode, uid, mark }) },
	{ weight: 3, arbitrary: fc.record({ ...plantedDirectory, opaque: fc.constant(false) }) },
	{ weight: 1, arbitrary: fc.record({ ...plantedDirectory, opaque: fc.constant(true) }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("symlink" as const), path: filePath, target }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("fifo" as const), path: filePath, mode: fileMode }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("device" as const), path: filePath, device }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("whiteout" as const), path }) },
	{ weight: 3, arbitrary: fc.record({ kind: fc.constant("link" as const), path: filePath, from: filePath, isFromBelow: fc.boolean() }) },
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("outside" as const), path: filePath }) },
);

const xattrName = fc.oneof(
	{
		weight: 12,
		arbitrary: fc.constantFrom(
			"user.a",
			"user.b",
			"user.colour",
			"trusted.x",
			"trusted.colour",
			"trusted.overlay.y",
			"trusted.overlay.opaque",
			"user.overlay.y",
			"security.x",
		),
	},
	{ weight: 1, arbitrary: fc.constantFrom("system.nothing", "nothing", "user.", "trusted.overlay.") },
);
const aclName = fc.constantFrom("system.posix_acl_access", "system.posix_acl_default");

const held = fc.boolean();
const on = { path: filePath, held };
const onFolder = { path: folderPath, held };
const onAny = { path: pathOrRoot, held };
const offset = fc.constantFrom(0, 1, 4096, 100_000);
const operations: fc.MaybeWeightedArbitrary<Operation>[] = [
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
	{ weight: 1, arbitrary: fc.record({ kind: fc.constant("device" as const), ...on, mode: fileMode, device: anyDevice }) },
	{ weight: 4, arbitrary: fc.record({ kind: fc.constant("mkdir" as const), ...onFolder, mode: directoryMode }) },
	{ weight: 6, arbitrary: fc.record({ kind: fc.constant("rename" as const), ...on, to: filePath }) },
	{ weight: 6, arbitrary: fc.record({ kind: fc.constant("rename" as const), ...onFolder, to: folderPath }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("rename" as const), path, held, to: path }) },
	{ weight: 3, arbitrary: fc.record({ kind: fc.constant("exchange" as const), path, held, to: path }) },
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
	{
		weight: 4,
		arbitrary: fc.record({
			kind: fc.constant("setxattr" as const),
			...onAny,
			name: xattrName,
			value: fc.constantFrom<XattrValue>("empty", "short", "other", "long", "huge", "y"),
			mode: fc.constantFrom("any" as const, "any" as const, "create" as const, "replace" as const),
		}),
	},
	{
		weight: 3,
		arbitrary: fc.record({
			kind: fc.constant("setxattr" as const),
			...onAny,
			name: aclName,
			value: fc.constantFrom<XattrValue>(
				"acl of a user",
				"acl of a user",
				"acl of a group",
				"acl of a mode",
				"acl without mask",
				"empty",
				"short",
			),
			mode: fc.constant("any" as const),
		}),
	},
	{
		weight: 1,
		arbitrary: fc.record({
			kind: fc.constant("setxattr" as const),
			...on,
			name: fc.constant("security.capability"),
			// not "empty": the kernel takes it, but then cannot copy the object up, nor can anybody
			value: fc.constantFrom<XattrValue>("capability", "capability", "short"),
			mode: fc.constantFrom("any" as const, "any" as const, "replace" as const),
		}),
	},
	{
		weight: 2,
		arbitrary: fc.record({
			kind: fc.constant("removexattr" as const),
			...onAny,
			name: fc.oneof({ weight: 9, arbitrary: xattrName }, { weight: 1, arbitrary: fc.constant("security.capability") }),
		}),
	},
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("removexattr" as const), ...onAny, name: aclName }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("read" as const), ...on }) },
	{ weight: 2, arbitrary: fc.record({ kind: fc.constant("readdir" as const), ...onAny }) },
	{ weight: 3, arbitrary: fc.constant({ kind: "restart" as const }) },
];
const handOver: fc.Arbitrary<Operation> = fc.oneof(
	{ weight: 3, arbitrary: fc.constant({ kind: "toHoldfast" as const }) },
	{
		weight: 3,
		arbitrary: fc.record({
			kind: fc.constant("toKernel" as const),
			mount: fc.oneof({ weight: 1, arbitrary: fc.constant(MOUNT_KINDS[0]) }, { weight: 1, arbitrary: fc.constantFrom(...MOUNT_KINDS) }),
		}),
	},
);

function scenariosOf(operation: fc.Arbitrary<Operation>): fc.Arbitrary<Scenario> {
	return fc.noBias(
		fc.record({
			lowers: fc.array(fc.array(plantStep, { maxLength: 20, size: "max" }), { minLength: 1, maxLength: 4 }),
			operations: fc.array(operation, { maxLength: 80, size: "max" }),
			nodesMax: fc.constantFrom(65536, 3),
			checksEach: fc.boolean(),
			fileSystems: fc.array(fc.constantFrom(...FILE_SYSTEMS), { minLength: 5, maxLength: 5 }),
			copiesInParts: fc.boolean(),
			usesThreads: fc.nat({ max: 19 }).map((number) => number === 19),
		}),
	);
}

/** Holdfast and the kernel do the same, each on layers of its own. */
export const parallelScenarios = scenariosOf(fc.oneof(...operations));
/** One set of layers goes to and fro between the kernel and holdfast. */
export const alternatingScenarios = scenariosOf(fc.oneof(...operations, { weight: 6, arbitrary: handOver }));
