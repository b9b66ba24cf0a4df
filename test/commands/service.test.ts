// The server as a service: what it tells the manager that started it, and that nothing is told without one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { needs } from "../support/requirements.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import { ServerProcess } from "../support/server-process.ts";

const skip = needs("perl");

/** Prints each datagram as one line, its line ends as "|". */
const LISTENER = `
use Socket; $| = 1;
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die $!;
my $name = $ARGV[0]; $name =~ s/^@/\\0/;
bind($socket, pack("S a*", AF_UNIX, $name)) or die $!;
print "listening\\n";
while (defined recv($socket, my $text, 8192, 0)) { $text =~ s/\\n/|/g; print "$text\\n"; }
`;

/** A manager that listens at `address`; the next thing that it was told. */
async function manager(t: TestContext, address: string): Promise<() => Promise<string>> {
	const child = spawn("perl", ["-e", LISTENER, address], { stdio: ["ignore", "pipe", "inherit"] });
	t.after(() => child.kill("SIGKILL"));
	const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
	const next = async () => (await lines.next()).value as string;
	assert.equal(await next(), "listening");
	return next;
}

function server(made: Scratch, env: Readonly<Record<string, string>>): ServerProcess {
	const lower = plant(made.folder("lower"), { f: "content\n" });
	const started = new ServerProcess({ lowers: [lower], args: ["--state-dir", made.folder("state")], env });
	made.beforeRemoval(() => started.kill());
	return started;
}

for (const kind of ["a path", "an abstract name"]) {
	test(`a manager at ${kind} is told once when clients may come, then that the server is alive, then that it stops`, {
		skip,
	}, async (t) => {
		const made = scratch(t);
		const address = kind === "a path" ? join(made.path, "notify") : `@holdfast-test-${process.pid}`;
		const next = await manager(t, address);
		const served = server(made, { NOTIFY_SOCKET: address, WATCHDOG_USEC: "100000" });
		await served.start();
		assert.equal(await next(), `READY=1|STATUS=Serving at 127.0.0.1:${served.port}`);
		for (let i = 0; i < 3; i++) assert.equal(await next(), "WATCHDOG=1");
		const ended = served.terminate();
		let last = await next();
		while (last === "WATCHDOG=1") last = await next();
		assert.match(last, /^STOPPING=1\|STATUS=/);
		await ended;
	});
}

test("a watchdog that waits for another process is not fed, and a manager that is gone is none", { skip }, async (t) => {
	const made = scratch(t);
	const address = join(made.path, "notify");
	const next = await manager(t, address);
	const served = server(made, { NOTIFY_SOCKET: address, WATCHDOG_USEC: "1000", WATCHDOG_PID: "1" });
	await served.start();
	assert.match(await next(), /^READY=1/);
	await served.terminate();
	assert.match(await next(), /^STOPPING=1/);
	const alone = server(made, { NOTIFY_SOCKET: join(made.path, "nobody"), WATCHDOG_USEC: "1000" });
	await alone.start();
	await alone.terminate();
	assert.equal(alone.stderr, "");
	assert.equal(served.stderr, "");
});
