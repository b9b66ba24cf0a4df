/** Commands during which one call fails: each ends with success or one sentence, and then does what it was asked for. */

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Scratch } from "../support/scratch.ts";
import { runHoldfast, startServer } from "../support/server-process.ts";
import { END, raw } from "../support/tar-archive.ts";
import { PRELOAD } from "./fault-campaign.ts";
import { ERRORS, type FaultReport, formatOrder } from "./fault-order.ts";
import { type Keeping, type Lowers, Stage } from "./stage.ts";

export interface FaultyCommand {
	readonly name: string;
	readonly keeping?: Keeping;
	readonly args: (stage: Stage) => readonly string[];
	/** Before the command, without a fault. */
	readonly before?: (stage: Stage) => readonly string[];
	/** Before the first run, without a fault. */
	readonly prepare?: (stage: Stage, scratch: Scratch) => Promise<void>;
	/** The same upper may be used again. */
	readonly isRepeatable: boolean;
}

const layers = ({ lowers, upper, work, path }: Stage): string[] => [
	...lowers.paths.flatMap((lower) => ["--lower", lower]),
	...["--upper", upper, "--work", work, "--state-dir", join(path, "state")],
];

const withoutState = (stage: Stage): string[] => layers(stage).slice(0, -2);

/** A set of changes to the topmost lower, which was served once. */
async function makeSet({ lowers, path }: Stage, scratch: Scratch): Promise<void> {
	const directory = lowers.paths[0] as string;
	const server = await startServer(scratch, { directory, args: ["--state-dir", join(path, "state")] });
	const client = await server.client();
	await client.createFile(await client.root(), "made", Buffer.from("made"));
	client.close();
	await server.terminate();
}

export const COMMANDS: readonly FaultyCommand[] = [
	{ name: "list", prepare: makeSet, args: ({ path }) => ["list", "--state-dir", join(path, "state")], isRepeatable: true },
	{
		name: "diff",
		prepare: makeSet,
		args: ({ lowers, path }) => ["diff", lowers.paths[0] as string, "--state-dir", join(path, "state")],
		isRepeatable: true,
	},
	{ name: "diff of layers", args: (stage) => ["diff", ...withoutState(stage)], isRepeatable: true },
	{ name: "check", args: (stage) => ["check", ...withoutState(stage)], isRepeatable: true },
	{ name: "check --repair", args: (stage) => ["check", "--repair", ...withoutState(stage)], isRepeatable: true },
	{ name: "settle", args: (stage) => ["settle", ...layers(stage)], isRepeatable: true },
	{ name: "key list", args: (stage) => ["key", "list", ...layers(stage)], isRepeatable: true },
	{ name: "key rotate", args: (stage) => ["key", "rotate", ...layers(stage)], isRepeatable: true },
	{ name: "release", args: (stage) => ["release", ...layers(stage)], isRepeatable: false },
	{ name: "adopt", before: (stage) => ["release", ...layers(stage)], args: (stage) => ["adopt", ...layers(stage)], isRepeatable: false },
	{ name: "rebind", args: (stage) => ["rebind", ...layers(stage)], isRepeatable: false },
	{
		name: "fork",
		keeping: "portable",
		args: ({ upper, work, path }) => ["fork", "--upper", upper, "--work", work, "--state-dir", join(path, "state")],
		isRepeatable: true,
	},
	{
		name: "unpack",
		args: ({ path }) => {
			const archive = join(path, "layer.tar");
			const target = join(path, "unpacked");
			rmSync(target, { recursive: true, force: true });
			writeFileSync(
				archive,
				Buffer.concat([
					raw({ name: "dir/", type: "5" }),
					raw({ name: "dir/file", data: Buffer.alloc(70_000, 1) }),
					raw({ name: "dir/.wh.gone" }),
					END,
				]),
			);
			return ["unpack", archive, target];
		},
		isRepeatable: true,
	},
];

let serial = 0;

/** The number of places tried. */
export async function failCommand(
	scratch: Scratch,
	lowers: Lowers,
	command: FaultyCommand,
	{ error, stride, first }: { readonly error: string; readonly stride: number; readonly first: number },
	fail: (what: string) => void,
): Promise<number> {
	let places = 0;
	let stage: Stage | null = null;
	for (let at = first; ; at += stride) {
		if (stage === null || !command.isRepeatable) {
			stage?.remove();
			stage = new Stage(lowers, `command${serial++}`, null, false, command.keeping ?? "kernel");
			await stage.build();
			await stage.close();
			mkdirSync(join(stage.path, "state"), { recursive: true });
			await command.prepare?.(stage, scratch);
		}
		const where = `${command.name}, ${error}, call ${at}`;
		if (command.before !== undefined) {
			const { code, stderr } = runHoldfast(command.before(stage));
			if (code !== 0) fail(`${where}: before it ${stderr}`);
		}
		const args = command.args(stage);
		const reportPath = join(stage.path, "report");
		const run = runHoldfast(args, {
			env: {
				NODE_OPTIONS: `--import=${PRELOAD}`,
				HOLDFAST_FAULT: formatOrder({ at, error: ERRORS[error][0], isFrom: false }),
				HOLDFAST_FAULT_REPORT: reportPath,
			},
		});
		const { hits, name } = JSON.parse(readFileSync(reportPath, "utf8")) as FaultReport;
		const { code, stderr } = run;
		const told = `${where} (${name}): ends with ${code}: ${stderr}${run.stdout.slice(0, 500)}`;
		if (code === null || (code > 2 && command.name !== "check" && command.name !== "check --repair")) fail(told);
		else if (/should not have happened|^ {4}at |node:|\bE[A-Z]+: [a-z]/m.test(stderr)) fail(told);
		else if (code !== 0 && code !== 4 && stderr.trim() === "" && run.stdout.trim() === "") fail(`${told}, and says nothing`);
		if (command.name === "unpack") rmSync(args.at(-1) as string, { recursive: true, force: true });
		const again = code === 0 && !command.isRepeatable ? null : runHoldfast(command.args(stage));
		if (again !== null && again.code !== 0)
			fail(`${where} (${name}): ended with ${code}: ${stderr}; and again with ${again.code}: ${again.stderr}${again.stdout.slice(0, 800)}`);
		if (hits === 0) break;
		places++;
	}
	stage?.remove();
	return places;
}
