import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { release } from "../../src/overlay/upkeep/release.ts";
import { Inconclusive } from "../crash/power-disk.ts";
import { CrashError, counting } from "../crash/stage.ts";
import { workInline } from "../differential/inline-offload.ts";
import { Broken, type Cell, type CellOptions } from "./cell.ts";
import { COPY_NAMES } from "./copies.ts";
import type { Event } from "./events.ts";
import type { Kind } from "./kinds.ts";
import type { Stack } from "./stacks.ts";

/** What a fault works with. */
export interface Bench {
	/** Everything anew: an upper, the object in it, its handle. */
	begin(options?: CellOptions): Promise<Cell>;
	/** A number below that, the same whenever this cell runs. */
	random(below: number): number;
	/** Of the crash points of a cell one of so many is tried; 1 for all of them. */
	readonly stride: number;
	/** The world was stopped before the system call of that number. */
	crashed(number: number, call: string): void;
	/** A process was killed. */
	killed(): void;
}

/** What goes wrong meanwhile. A new column of the matrix is one entry of FAULTS. */
export interface Fault {
	readonly name: string;
	/** One sentence, for docs/matrix.md. */
	readonly about: string;
	run(bench: Bench): Promise<void>;
	impossible(kind: Kind, event: Event, stack: Stack): string | null;
}

/** After one of so many kills `holdfast check` looks at what is there in the end. */
const CHECK_STRIDE = 4;

/** In one of so many cells a process of its own is killed too. */
const PROCESS_STRIDE = 4;

/** A run without a fault inside the event; `between` each two requests. */
async function plain(bench: Bench, options: CellOptions, between: (cell: Cell) => unknown): Promise<void> {
	await withCell(await bench.begin(options), async (cell) => {
		await between(cell);
		await cell.sendRest(() => between(cell));
		await cell.check();
	});
}

/** Whatever happens, nothing of the cell is left. */
async function withCell(cell: Cell, act: (cell: Cell) => Promise<void>): Promise<void> {
	try {
		await act(cell);
	} catch (error) {
		// the runner throws the disks away
		await cell.close().catch(() => {});
		throw error;
	}
	await cell.end();
}

/** Sends until the world stops before call `limit`. */
async function stopped(cell: Cell, limit: number): Promise<void> {
	try {
		await counting(limit, () => cell.sendRest());
	} catch (error) {
		if (!(error instanceof CrashError)) throw error;
	}
}

/** After a crash: the change that was under way has happened or has not; it comes again, and the rest after it. */
async function goOn(cell: Cell, where: string): Promise<void> {
	try {
		const under = Math.min(cell.answered, cell.changes.length - 1);
		const now = cell.answered < cell.changes.length ? [cell.answered, cell.answered + 1] : [cell.answered];
		await cell.checkAfter(...now);
		if (under >= 0) await cell.send(under);
		await cell.sendRest();
		await cell.check();
	} catch (error) {
		throw error instanceof Broken ? new Broken(`${where}: ${error.message}`) : new Error(where, { cause: error });
	}
}

async function calls(bench: Bench, options: CellOptions) {
	const cell = await bench.begin(options);
	let found: readonly string[] = [];
	await withCell(cell, async () => {
		found = (await counting(Number.POSITIVE_INFINITY, () => cell.sendRest())).calls;
		await cell.check();
	});
	return { calls: found, changes: cell.changes };
}

export const FAULTS: readonly Fault[] = [
	{ name: "none", about: "nothing goes wrong.", run: (bench) => plain(bench, {}, () => {}), impossible: () => null },
	{
		name: "eviction",
		about: "between each two requests every object, descriptor and listing goes out of memory.",
		run: (bench) => plain(bench, { isForgetful: true }, (cell) => cell.forget()),
		impossible: () => null,
	},
	{
		name: "restart",
		about: "between each two requests the overlay is closed and opened again, as at SIGTERM.",
		run: (bench) => plain(bench, {}, (cell) => cell.restart()),
		impossible: () => null,
	},
	{
		name: "kill",
		about:
			"the world is stopped before every single system call of the event that changes the disk, one run each, as at SIGKILL; in one of four cells a process of its own is killed by the signal, too.",
		async run(bench) {
			const { calls: all, changes } = await calls(bench, {});
			for (let k = bench.random(Math.min(bench.stride, all.length + 1)); k <= all.length; k += bench.stride) {
				const call = all[k] ?? "the reply";
				await withCell(await bench.begin({ changes, isChecked: k % CHECK_STRIDE === 0 }), async (cell) => {
					await stopped(cell, k);
					cell.abandon();
					cell.open();
					bench.crashed(k, call);
					await goOn(cell, `killed before ${call}, call ${k} of ${all.length}`);
				});
			}
			if (bench.random(PROCESS_STRIDE * Math.min(bench.stride, 4)) > 0) return;
			await withCell(await bench.begin({ changes }), async (cell) => {
				const k = bench.random(all.length + 1);
				await cell.killProcess(k);
				cell.open();
				bench.killed();
				await goOn(cell, `its process killed before ${all[k] ?? "the reply"}, call ${k} of ${all.length}`);
			});
		},
		impossible: () => null,
	},
	{
		name: "power loss",
		about:
			"the disk of the upper loses its power after the last answer of a `--sync` export, and in another run before one of the calls: FS_IOC_SHUTDOWN on ext4 and xfs, a copy of the image at an instant without writes on btrfs.",
		async run(bench) {
			const { calls: all, changes } = await calls(bench, { isSync: true });
			// what was answered is there, whatever was written behind it; and one moment in between
			for (const [k, isCommitted] of [
				[all.length, false],
				[bench.random(all.length + 1), bench.random(2) === 0],
			] as const) {
				const call = all[k] ?? "the reply";
				await withCell(await bench.begin({ changes, isSync: true }), async (cell) => {
					await stopped(cell, k);
					await cell.cutPower(isCommitted);
					cell.open();
					bench.crashed(k, call);
					await goOn(cell, `power lost before ${call}, call ${k} of ${all.length}${isCommitted ? ", committed" : ""}`);
				});
			}
		},
		impossible: (_kind, _event, { upper }) => (upper === "tmpfs" ? "tmpfs does not outlive a power failure" : null),
	},
	{
		name: "other mount",
		about:
			"before the event the file systems of all layers are unmounted and mounted at another path (tmpfs: bound there), and back after it.",
		async run(bench) {
			await withCell(await bench.begin({}), async (cell) => {
				const { disks } = cell.ground;
				await cell.close();
				try {
					for (const disk of disks) disk.move();
					cell.open();
					await cell.checkAfter(0);
					await cell.sendRest();
					await cell.check();
				} finally {
					await cell.close();
					for (const disk of disks) disk.moveBack();
				}
				cell.open();
				await cell.check();
			});
		},
		impossible: () => null,
	},
	{
		name: "kernel in between",
		about: "after the event the upper is released, mounted and changed by the kernel's overlayfs, and served again.",
		async run(bench) {
			await withCell(await bench.begin({}), async (cell) => {
				await cell.sendRest();
				await cell.close();
				await release(workInline(openOverlay(cell.layers("release")).overlay), cell.work, false);
				const layers = `lowerdir=${cell.ground.lowers.join(":")},upperdir=${cell.upper},workdir=${cell.work}`;
				// which is nothing that the cell looks at
				const elsewhere = `${cell.kind.path === "" ? "file" : "root"}/o/mover`;
				const options = `${layers},index=on,redirect_dir=on,nfs_export=on`;
				cell.ground.kernel(options, (tree) => writeFileSync(join(tree, elsewhere), "written by the kernel"));
				try {
					cell.open();
				} catch (error) {
					// a mount namespace that was made meanwhile has a copy of the mount, which is the kernel's to end
					if (/in another mount namespace/.test((error as Error).message)) throw new Inconclusive((error as Error).message);
					throw error;
				}
				await cell.check();
			});
		},
		impossible: () => null,
	},
];

/** For portable handles: the kernel goes on with nothing, and layers go anywhere. */
export const PORTABLE_FAULTS: readonly Fault[] = [
	...FAULTS.filter(({ name }) => name !== "kernel in between"),
	...COPY_NAMES.map(
		(name): Fault => ({
			name: `copied by ${name}`,
			about: `before the event all layers are copied to another file system by ${name}, and served there, the event and a restart with them.`,
			async run(bench) {
				await withCell(await bench.begin({}), async (cell) => {
					await cell.moveBy(name, async () => {
						await cell.checkAfter(0);
						await cell.sendRest();
						await cell.restart();
						await cell.check();
					});
				});
			},
			impossible: (_kind, event) => (event.again === undefined ? null : "where copies lie, inode numbers seldom come again"),
		}),
	),
];
