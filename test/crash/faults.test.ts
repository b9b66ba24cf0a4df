/** Calls that fail with ENOSPC, EDQUOT, EROFS, EIO, EACCES or EMFILE: in service, at starts and stops, in commands. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { generator } from "../support/random.ts";
import { needs, onlyInAll, sampled, seed, volume } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";
import { FaultCampaign, PRELOAD } from "./fault-campaign.ts";
import { COMMANDS, failCommand } from "./fault-commands.ts";
import { ERRORS } from "./fault-order.ts";
import { REQUESTS } from "./fault-requests.ts";
import { failStops } from "./fault-stops.ts";
import { Lowers } from "./stage.ts";

const skip = needs("root") || cannotMount("tmpfs");
const ALL_ERRORS = Object.keys(ERRORS);
/** Requests that one server gets. */
const AT_ONCE = 10;

function assertNone(failures: readonly string[]): void {
	assert.equal(failures.length, 0, `${failures.length} failures:\n${failures.slice(0, 10).join("\n")}`);
}

for (const memory of ["hot", "cold"] as const) {
	test(`while a call fails a request is answered with an error that fits or succeeds, nothing is half done, and sent again it succeeds: ${memory} memory`, {
		skip: skip || (memory === "cold" && onlyInAll),
	}, async (t) => {
		const made = scratch(t);
		const failures: string[] = [];
		const campaign = new FaultCampaign(made, (what) => failures.push(what), volume(60, 2000));
		const fileSystem = made.mount("tmpfs", "disk");
		const random = generator(seed);
		const requests = sampled(REQUESTS, 4);
		for (let i = 0; i < requests.length; i += AT_ONCE) {
			const stride = volume(40, 9, 1);
			const errors = sampled(ALL_ERRORS, 3);
			const handles = random(2) === 1 ? "kernel" : "portable";
			await campaign.run(requests.slice(i, i + AT_ONCE), { memory, handles, errors, stride, first: 1 + random(stride), fileSystem });
		}
		const { places, refused } = campaign.counts;
		t.diagnostic(`${places} places, at ${refused} of them the request was refused; seed ${seed}`);
		assertNone(failures);
		assert.ok(places > 0 && refused > 0);
	});
}

/** Without a line for so long a place hangs, and is named. */
const HANG_MS = 120_000;

function runStarts(t: TestContext, args: readonly string[]): Promise<{ readonly places: number; readonly failures: string[] }> {
	const main = join(dirname(fileURLToPath(import.meta.url)), "fault-starts.js");
	const child = spawn(process.execPath, ["--import", PRELOAD, main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
	t.after(() => child.kill("SIGKILL"));
	const failures: string[] = [];
	let [place, places, stderr] = ["none", 0, ""];
	const giveUp = () => {
		failures.push(`${place}: hangs`);
		child.kill("SIGKILL");
	};
	let timer = setTimeout(giveUp, HANG_MS);
	child.stderr.on("data", (chunk) => {
		stderr += chunk;
	});
	createInterface({ input: child.stdout }).on("line", (line) => {
		clearTimeout(timer);
		timer = setTimeout(giveUp, HANG_MS);
		if (line.startsWith("TRY ")) place = line.slice(4);
		else if (line.startsWith("FAIL ")) failures.push(line.slice(5));
		else if (line.startsWith("DONE ")) places = Number(line.split(" ")[1]);
	});
	return new Promise((resolve) => {
		child.on("close", (code) => {
			clearTimeout(timer);
			if (code !== 0) failures.push(`ended with ${code} at ${place}: ${stderr}`);
			resolve({ places, failures });
		});
	});
}

for (const keeping of ["kernel", "portable", "ordinary"] as const) {
	test(`a start or stop during which a call fails succeeds or says one sentence, and the next start finds all as it was: ${keeping} handles`, {
		skip: skip || (keeping !== "kernel" && onlyInAll),
	}, async (t) => {
		const stride = volume(1200, 29, 3);
		const { places, failures } = await runStarts(t, [
			scratch(t).mount("tmpfs"),
			keeping,
			String(stride),
			String(1 + generator(seed)(volume(20, stride))),
		]);
		t.diagnostic(`${places} places; seed ${seed}`);
		assertNone(failures);
		assert.ok(places > 0);
	});
}

test("a server that is stopped while a call fails ends with a sentence or none, and the next start finds all as it was", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const base = made.mount("tmpfs");
	const { paths } = new Lowers(base);
	const failures: string[] = [];
	const random = generator(seed);
	let places = 0;
	for (const handles of sampled(["kernel", "portable"] as const, 1)) {
		const folder = join(base, `stops-${handles}`);
		mkdirSync(folder);
		const [stride, errors] = [volume(200, 20, 1), volume(["EIO"], ALL_ERRORS)];
		const given = { lowers: paths, folder, handles, errors, stride, first: 1 + random(volume(5, stride)) };
		places += await failStops(made, given, (what) => failures.push(what));
	}
	t.diagnostic(`${places} places; seed ${seed}`);
	assertNone(failures);
	assert.ok(places > 0);
});

test("a command during which a call fails succeeds or says one sentence, and run again it succeeds", {
	skip: skip || onlyInAll,
}, async (t) => {
	const made = scratch(t);
	const lowers = new Lowers(made.mount("tmpfs"));
	const failures: string[] = [];
	const random = generator(seed);
	let places = 0;
	for (const command of COMMANDS) {
		for (const error of ALL_ERRORS) {
			const stride = volume(0, 150, 10);
			const given = { error, stride, first: 1 + random(20) };
			places += await failCommand(made, lowers, command, given, (what) => failures.push(what));
		}
	}
	t.diagnostic(`${places} places; seed ${seed}`);
	assertNone(failures);
	assert.ok(places > 0);
});
