/**
 * Two Linux clients of version 4.1 lock the same files, while the server is killed and started again under them: no lock is had twice, no round of a
 * counter is lost, and no program sees an error.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { needs, volume } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";
import { runVm } from "../support/virtual-machine.ts";

const skip = needs("root", "vm", "perl", "sqlite3");
const KILL_EVERY_MILLISECONDS = 5_000;

test("flock, fcntl and sqlite locks hold between two Linux clients, over kills of the server", { skip }, async (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { counter: "00000000\n" });
	const server = await startServer(made, { lowers: [lower], upper: made.folder("upper"), args: ["--state-dir", made.folder("state")] });
	let kills = 0;
	let isContending = false;
	let error: unknown;
	const killing = async (): Promise<void> => {
		while (isContending && error === undefined) {
			await new Promise((resolve) => setTimeout(resolve, KILL_EVERY_MILLISECONDS));
			if (!isContending) return;
			try {
				await server.kill();
				await server.start();
				kills++;
			} catch (thrown) {
				error = thrown;
			}
		}
	};
	let killer: Promise<void> = Promise.resolve();
	const vm = await runVm(made, "locks.sh", {
		env: { PORT: String(server.port), SECONDS_: String(volume(12, 20, 120)) },
		onLine: (line) => {
			if (line === "@begin contention") {
				isContending = true;
				killer = killing();
			}
			if (line === "@end contention") isContending = false;
		},
	});
	await killer;
	assert.ifError(error);
	const told = `${vm.output}\n${server.stderr.slice(-2000)}`;
	assert.deepEqual(
		vm.output.split("\n").filter((line) => line !== "" && !line.startsWith("@")),
		[],
		`programs complained\n${told}`,
	);
	assert.equal(vm.status, 0, told);
	const rounds = /^@rounds (\d+) (\d+) (\d+) (\d+)$/m.exec(vm.output)?.slice(1).map(Number) ?? [];
	t.diagnostic(`${kills} kills; rounds and rows of each client: ${rounds.join(", ")}; virtual machine: ${vm.seconds.toFixed(1)} s`);
	assert.ok(rounds.length === 4 && rounds.every((count) => count > 0), told);
	for (const mark of ["@exclusive", "@unlinked"]) assert.ok(vm.output.split("\n").includes(mark), told);
	assert.ok(kills > 0, "the server was never killed");
});
