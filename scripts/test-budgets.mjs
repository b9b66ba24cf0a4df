// How much processor time each test file may take, and which part of the tests it belongs to.

/** Seconds of processor time, user and system, of a file that is not named below. */
export const DEFAULT_SECONDS = 10;

/**
 * `sample`: seconds in `npm test`, where 0 keeps the file out of it. `all`: seconds with the volumes of `npm run test:all`; left out
 * where these are the same, and so nothing new is to be seen there.
 */
const BUDGETS = {
	"src/fuse/bad-requests.test.ts": { sample: 10, all: 60 },
	"src/overlay/changes/discard.test.ts": { sample: 15, all: 150 },
	"src/server/nfs4-fuzz.test.ts": { sample: 10, all: 60 },
	"test/clients/copy-up-everything.test.ts": { sample: 0, all: 90 },
	"test/clients/fake-root.test.ts": { sample: 10, all: 40 },
	"test/clients/fuse-mount.test.ts": { sample: 0, all: 40 },
	"test/clients/libnfs.test.ts": { sample: 15 },
	"test/clients/linux-client-discard.test.ts": { sample: 0, all: 40 },
	"test/clients/linux-client-kill.test.ts": { sample: 0, all: 240 },
	"test/clients/linux-client-locks.test.ts": { sample: 0, all: 40 },
	"test/clients/linux-client.test.ts": { sample: 30, all: 300 },
	"test/clients/mount-beside-nfs.test.ts": { sample: 0, all: 60 },
	"test/clients/own-mount.test.ts": { sample: 0, all: 40 },
	"src/overlay/changes/apply.test.ts": { sample: 20, all: 240 },
	"test/commands/apply.test.ts": { sample: 15 },
	"test/commands/check.test.ts": { sample: 30, all: 60 },
	"test/commands/command-line.test.ts": { sample: 25 },
	"test/commands/completion.test.ts": { sample: 0, all: 25 },
	"test/commands/discard.test.ts": { sample: 10, all: 15 },
	"test/commands/dry-run.test.ts": { sample: 0, all: 20 },
	"test/commands/fresh-clone.test.ts": { sample: 0, all: 30 },
	"test/commands/help-examples.test.ts": { sample: 0, all: 40 },
	"test/commands/hostile-names.test.ts": { sample: 0, all: 90 },
	"test/commands/mount.test.ts": { sample: 15, all: 60 },
	"test/commands/package.test.ts": { sample: 0, all: 45 },
	"test/commands/readme.test.ts": { sample: 0, all: 240 },
	"test/commands/run.test.ts": { sample: 15, all: 60 },
	"test/commands/systemd.test.ts": { sample: 0, all: 90 },
	"test/commands/keys.test.ts": { sample: 0, all: 15 },
	"test/commands/sets.test.ts": { sample: 15, all: 90 },
	"test/contract/directory-renames.test.ts": { sample: 30, all: 150 },
	"test/contract/handles.test.ts": { sample: 30, all: 70 },
	"test/contract/hard-links.test.ts": { sample: 25, all: 40 },
	"test/contract/held-objects.test.ts": { sample: 10, all: 25 },
	"test/contract/links.test.ts": { sample: 30, all: 120 },
	"test/contract/listings.test.ts": { sample: 10, all: 40 },
	"test/contract/never-another-file.test.ts": { sample: 10, all: 40 },
	"test/contract/partial.test.ts": { sample: 10, all: 30 },
	"test/contract/portable.test.ts": { sample: 45, all: 110 },
	"test/contract/reads-write-nothing.test.ts": { sample: 10, all: 40 },
	"test/crash/compounds.test.ts": { sample: 0, all: 40 },
	"test/crash/conversion.test.ts": { sample: 0, all: 30 },
	"test/crash/discard.test.ts": { sample: 10, all: 90 },
	"test/crash/each-call.test.ts": { sample: 70, all: 400 },
	"test/crash/faults.test.ts": { sample: 10, all: 300 },
	"test/crash/fuse-kill.test.ts": { sample: 0, all: 60 },
	"test/crash/fuse-requests.test.ts": { sample: 0, all: 60 },
	"test/crash/held-objects.test.ts": { sample: 20, all: 90 },
	"test/crash/kill.test.ts": { sample: 20, all: 60 },
	"test/crash/no-room.test.ts": { sample: 10, all: 200 },
	"test/crash/partial.test.ts": { sample: 20, all: 60 },
	"test/crash/power.test.ts": { sample: 0, all: 120 },
	"test/crash/unreadable-adoption.test.ts": { sample: 10, all: 25 },
	"test/differential/differential.test.ts": { sample: 25, all: 400 },
	"test/layers/able-file-systems.test.ts": { sample: 0, all: 25 },
	"test/layers/adopt-upper.test.ts": { sample: 0, all: 60 },
	"test/layers/portable-release.test.ts": { sample: 0, all: 60 },
	"test/layers/crafted-layers.test.ts": { sample: 30, all: 120 },
	"test/layers/damaged-records.test.ts": { sample: 20, all: 90 },
	"test/layers/damaged-state.test.ts": { sample: 0, all: 120 },
	"test/layers/foreign-forms.test.ts": { sample: 0, all: 35 },
	"test/layers/layer-kinds.test.ts": { sample: 0, all: 60 },
	"test/layers/portable-move.test.ts": { sample: 0, all: 70 },
	"test/layers/portable-rebase.test.ts": { sample: 0, all: 30 },
	"test/layers/rebind.test.ts": { sample: 15, all: 60 },
	"test/layers/unpack.test.ts": { sample: 35 },
	"test/layers/unpack-image.test.ts": { sample: 20 },
	"test/layers/users-of-upper.test.ts": { sample: 10, all: 30 },
	"test/limits/deep-paths.test.ts": { sample: 10, all: 60 },
	"test/limits/full-disk.test.ts": { sample: 0, all: 25 },
	"test/limits/isolation.test.ts": { sample: 0, all: 60 },
	"test/limits/memory.test.ts": { sample: 15, all: 40 },
	"test/matrix/matrix.test.ts": { sample: 0, all: 300 },
	"test/protocol/nfs4-retries.test.ts": { sample: 0, all: 35 },
	"test/protocol/safe-defaults.test.ts": { sample: 15, all: 20 },
	"test/posix/fuse.test.ts": { sample: 0, all: 40 },
	"test/posix/users.test.ts": { sample: 0, all: 60 },
};

/** Seconds that `file` may take in a part, "sample" or "all"; 0: it is not in that part. */
export function budgetOf(file, part) {
	const { sample, all } = BUDGETS[file] ?? { sample: DEFAULT_SECONDS };
	return part === "sample" ? sample : (all ?? sample);
}

/** Whether `npm run test:all` shows more of the file than `npm test`. */
export function hasRest(file) {
	return BUDGETS[file]?.all !== undefined;
}

/** Files that the table names and that are not there. */
export function unknownFiles(files) {
	return Object.keys(BUDGETS).filter((file) => !files.includes(file));
}
