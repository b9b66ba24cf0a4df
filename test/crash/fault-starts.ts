/**
 * A process of its own, with the injection of faults loaded before: starts and stops of an overlay during which one call fails. Prints each place
 * before it is tried, so that one that hangs has a name, then what is wrong, and at last how many there were.
 *
 *   node --import fault-injection.js fault-starts.js FOLDER KEEPING STRIDE FIRST [ERROR]...
 */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { TRUSTED_XATTRS, USER_XATTRS } from "../../src/layer/layer.ts";
import { LayerError } from "../../src/layer/layer-error.ts";
import { checkUpper } from "../../src/overlay/check/check.ts";
import { RegistryError } from "../../src/overlay/work/registry.ts";
import { describeFailure } from "../../src/vfs/system-errors.ts";
import { arm, disarm } from "./fault-injection.ts";
import { ERRORS } from "./fault-order.ts";
import { OPERATIONS } from "./operations.ts";
import { bytes, CrashError, counting, type Keeping, Lowers, ROOT, Stage } from "./stage.ts";
import { Names } from "./tree.ts";

const [folder, keeping, stride, first, ...chosen] = process.argv.slice(2) as [string, Keeping, string, string, ...string[]];

const base = join(folder, `starts-${keeping}`);
mkdirSync(base);
const lowers = new Lowers(base);
let places = 0;
let serial = 0;

const fail = (where: string, what: string) => console.log(`FAIL ${where}: ${what}`);

/** Null, or what of the error is no sentence for people. */
function notASentence(error: unknown): string | null {
	const isOurs = error instanceof LayerError || error instanceof RegistryError;
	const text = isOurs ? error.message : describeFailure(error);
	if (text === null) return `throws ${error instanceof Error ? error.stack : error}`;
	return /\n|^E[A-Z]+:|should not/.test(text) || !/^[A-Z]/.test(text) ? `says ${text}` : null;
}

function names(stage: Stage): Promise<readonly string[]> {
	return stage.observe().then((tree) => new Names(tree).describe(tree));
}

async function crash(stage: Stage): Promise<void> {
	const operation = OPERATIONS[(serial * 7) % OPERATIONS.length];
	try {
		await counting(serial % 12, () => stage.change(operation.run));
	} catch (error) {
		if (!(error instanceof CrashError)) {
			await stage.close();
			return;
		}
	}
	stage.abandon();
}

interface Phase {
	readonly name: string;
	/** A stage for the next place. */
	readonly stage: (last: Stage | null) => Promise<Stage>;
	readonly act: (stage: Stage) => Promise<void>;
	readonly isSame: boolean;
}

const built = async (last: Stage | null): Promise<Stage> => {
	if (last !== null) return last;
	const stage = new Stage(lowers, `stage${serial}`, null, false, keeping);
	await stage.build();
	await stage.close();
	return stage;
};
const start = async (stage: Stage) => void stage.open();

const PHASES: readonly Phase[] = [
	{ name: "first start", stage: async () => new Stage(lowers, `stage${serial}`, null, false, keeping), act: start, isSame: false },
	{ name: "start", stage: built, act: start, isSame: true },
	{
		name: "start after a kill",
		stage: async (last) => {
			const stage = serial % 10 === 0 || last === null ? await built(null) : last;
			stage.open();
			await crash(stage);
			return stage;
		},
		act: start,
		isSame: false,
	},
	{
		name: "stop",
		stage: async (last) => {
			const stage = await built(last);
			stage.open();
			await stage.change(({ overlay, at }) => void overlay.setattr(at("pure"), ROOT, { mode: 0o600 + (serial % 64) }));
			return stage;
		},
		act: (stage) => stage.close(),
		isSame: false,
	},
];

for (const phase of PHASES) {
	for (const [error, [number]] of Object.entries(ERRORS)) {
		if (chosen.length > 0 && !chosen.includes(error)) continue;
		let stage: Stage | null = null;
		for (let at = Number(first); ; at += Number(stride)) {
			serial++;
			const where = `${phase.name}, ${error}, call ${at}, ${keeping} handles`;
			console.log(`TRY ${where}`);
			stage = await phase.stage(stage);
			let before: readonly string[] | null = null;
			if (phase.isSame) {
				stage.open();
				before = await names(stage);
				await stage.close();
			}
			arm({ at, error: number, isFrom: serial % 3 === 0 });
			let failure: unknown = null;
			try {
				await phase.act(stage);
			} catch (thrown) {
				failure = thrown;
			}
			const { hits, name, seen } = disarm();
			if (failure !== null) {
				const wrong = notASentence(failure);
				if (wrong !== null) fail(`${where} (${name})`, wrong);
			}
			try {
				await stage.close();
			} catch (thrown) {
				fail(`${where} (${name})`, `closing ${(thrown as Error).stack}`);
			}
			try {
				stage.open();
				const now = await names(stage);
				if (before !== null && now.join("\n") !== before.join("\n"))
					fail(`${where} (${name})`, `it shows another tree:\n${now.join("\n")}`);
				await stage.settle(() => void stage?.overlay.symlink(stage.overlay.root, bytes(`s${serial}`), ROOT, bytes("x"), {}));
				await stage.settle(() => stage?.overlay.remove(stage.overlay.root, bytes(`s${serial}`), ROOT));
				await stage.close();
			} catch (thrown) {
				fail(`${where} (${name})`, `started again: ${(thrown as Error).stack}`);
				stage = null;
			}
			if (stage !== null && (serial % 8 === 0 || hits === 0)) {
				const { findings } = checkUpper({
					lowers: lowers.paths,
					upper: stage.upper,
					work: stage.work,
					xattr: keeping === "ordinary" ? USER_XATTRS : TRUSTED_XATTRS,
					isRepair: false,
				});
				const errors = findings.filter(({ severity }) => severity === "error");
				if (errors.length > 0) fail(`${where} (${name})`, `check finds ${JSON.stringify(errors)}`);
			}
			if (hits === 0) {
				console.log(`RAN ${where}, ${seen} calls`);
				break;
			}
			places++;
		}
	}
}
console.log(`DONE ${places}`);
process.exit(0);
