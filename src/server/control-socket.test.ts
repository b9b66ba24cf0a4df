// The control socket: who is heard, what is refused, and that no peer holds more than its place.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmodSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { close, O, openPath } from "../linux/open.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { lockUpper, type UpperLock } from "../overlay/opening/upper-lock.ts";
import { ControlError } from "./control-error.ts";
import { CONTROL_VERSION, controlSocketOf, REQUEST_BYTES_MAX, upperName } from "./control-protocol.ts";
import type { ControlRequest } from "./control-request.ts";
import { ControlSocket } from "./control-socket.ts";
import { gate, until } from "./test-server.test-support.ts";

const echo: ControlRequest = {
	name: "echo",
	async run({ send }, argument) {
		for (const item of argument.items as unknown[]) await send(item);
		if (argument.error !== undefined) throw new ControlError(String(argument.error));
		return argument.end;
	},
};

interface Stand {
	readonly path: string;
	readonly upper: string;
	readonly control: ControlSocket;
	/** The bytes that a socket has been given until its end. */
	answers(request: string | Buffer): Promise<unknown[]>;
	line(more: object): string;
	open(): Promise<Socket>;
}

async function stand(t: TestContext, requests: readonly ControlRequest[] = [echo]): Promise<Stand> {
	const made = scratch(t);
	const upper = made.folder("upper");
	const work = made.folder("work");
	const root = openPath(upper, O.rdonly | O.directory);
	const lock: UpperLock = lockUpper({ path: upper, root, folder: join(work, "holdfast") }, "holdfast serve");
	const opened = { upper, folder: join(work, "holdfast"), overlay: { engine: { layers: [], dataFiles: { layers: [] } } } };
	const control = new ControlSocket({
		exports: [opened as unknown as OpenedOverlay],
		requests: new Map(requests.map((request) => [request.name, request])),
		stateFolder: made.folder("state"),
		warn: (sentence) => assert.fail(sentence),
	});
	await control.listen();
	t.after(async () => {
		await control.close();
		lock.close();
		close(root);
	});
	const path = controlSocketOf(work);
	assert.ok(path !== null);
	const open = () =>
		new Promise<Socket>((resolve, reject) => {
			const socket = connect({ path });
			t.after(() => socket.destroy());
			socket.once("connect", () => resolve(socket)).once("error", reject);
		});
	return {
		path,
		upper,
		control,
		open,
		line: (more) => `${JSON.stringify({ version: CONTROL_VERSION, request: "echo", upper: upperName(upper), argument: {}, ...more })}\n`,
		async answers(request) {
			const socket = await open();
			socket.on("error", () => {});
			let text = "";
			socket.setEncoding("utf8").on("data", (chunk) => {
				text += chunk;
			});
			const ended = new Promise((resolve) => socket.once("close", resolve));
			socket.end(request);
			await ended;
			return text
				.split("\n")
				.filter(Boolean)
				.map((line) => JSON.parse(line));
		},
	};
}

test("a control socket is this user's alone, in a folder of this user, and goes with the server", async (t) => {
	const { path, control } = await stand(t);
	assert.equal(statSync(path).mode & 0o777, 0o600);
	assert.equal(statSync(dirname(path)).mode & 0o777, 0o700);
	await control.close();
	assert.equal(statSync(path, { throwIfNoEntry: false }), undefined);
});

test("requests of one connection are answered one after the other, items first", async (t) => {
	const { answers, line } = await stand(t);
	const first = line({ argument: { items: [1, "zwei"], end: "done" } });
	const second = line({ argument: { items: [], error: "A sentence." } });
	assert.deepEqual(await answers(first + second), [
		{ item: 1 },
		{ item: "zwei" },
		{ end: "done" },
		{ error: "A sentence.", code: "refused", version: CONTROL_VERSION },
	]);
});

test("what is no request of this version, or about no export of this server, is refused by a sentence", async (t) => {
	const { answers, line } = await stand(t);
	const codes = async (request: string | Buffer) => (await answers(request)).map((answer) => (answer as { code?: string }).code);
	assert.deepEqual(await codes(line({ version: CONTROL_VERSION + 1 })), ["version"]);
	assert.deepEqual(await codes(line({ request: "nothing" })), ["unknown"]);
	assert.deepEqual(await codes(line({ upper: "1:2" })), ["unknown"]);
	assert.deepEqual(await codes(line({ argument: null })), ["bad"]);
	assert.deepEqual(await codes("null\n"), ["bad"]);
	assert.deepEqual(await codes("[]\n"), ["bad"]);
	assert.deepEqual(await codes(`${"[".repeat(REQUEST_BYTES_MAX)}\n`), ["bad"]);
	assert.deepEqual(await codes(Buffer.from([0xff, 0x00, 0x0a])), ["bad"]);
	assert.deepEqual(await codes("GET / HTTP/1.1"), [], "no line, no answer");
});

test("a million bytes of JSON are refused, in one line or without an end, and the next peer is served", async (t) => {
	const { answers, line } = await stand(t);
	for (const end of ["", "\n"]) {
		const [answer] = await answers(line({ argument: { items: ["x".repeat(1_000_000)] } }).trimEnd() + end);
		assert.equal((answer as { code?: string }).code, "bad");
	}
	assert.deepEqual(await answers(line({ argument: { items: [], end: 1 } })), [{ end: 1 }]);
});

test("a peer that does not read makes the server wait, and what waits is bounded", async (t) => {
	let sent = 0;
	const { opened: ended, open: end } = gate();
	const endless: ControlRequest = {
		name: "endless",
		async run({ send }) {
			try {
				for (;;) {
					await send("x".repeat(1000));
					sent++;
				}
			} finally {
				end();
			}
		},
	};
	const { open, line, answers } = await stand(t, [endless, echo]);
	const socket = await open();
	socket.pause();
	socket.write(line({ request: "endless" }));
	// others are answered until it stands still: what the kernel and this process buffer is full
	for (let before = -1; before !== sent || sent === 0; ) {
		before = sent;
		for (let i = 0; i < 5; i++) await answers(line({ argument: { items: [], end: 1 } }));
	}
	assert.ok(sent < 5000, `${sent} items of 1,000 bytes wait for a peer`);
	socket.destroy();
	await ended;
});

test("whoever is neither this user nor root is not answered, also where the file lets them in", { skip: needs("root") }, async (t) => {
	const { path, line } = await stand(t);
	// the whole way to the socket
	for (let at = path; statSync(at).uid === 0 && at !== "/"; at = dirname(at)) chmodSync(at, statSync(at).mode | 0o077);
	const ask = `const s=require("node:net").connect(process.argv[1]);s.on("error",e=>console.log(e.code)).on("data",d=>console.log(String(d)));s.end(process.argv[2]);s.on("close",()=>console.log("closed"))`;
	const words = (uid: number) =>
		promisify(execFile)(process.execPath, ["-e", ask, path, line({ argument: { items: [], end: 1 } })], { uid, cwd: "/" });
	assert.match((await words(0)).stdout, /"end":1/);
	assert.doesNotMatch((await words(65534)).stdout, /EACCES|"end"/);
});

test("peers that send nothing keep nobody out: who has waited longest goes", async (t) => {
	const { open, line, answers } = await stand(t);
	const closed: number[] = [];
	for (let i = 0; i < 16; i++) {
		const socket = await open();
		socket.on("close", () => closed.push(i)).resume();
	}
	assert.deepEqual(await answers(line({ argument: { items: [], end: 1 } })), [{ end: 1 }]);
	await until(() => closed.length > 0);
	assert.deepEqual(closed, [0]);
});

test("a request that runs while the server ends is over before the end of that", async (t) => {
	const order: string[] = [];
	const { opened, open: go } = gate();
	const slow: ControlRequest = {
		name: "slow",
		async run({ send }) {
			order.push("begun");
			await opened;
			order.push("goes on");
			await send("late").catch((error) => {
				order.push("nobody there");
				throw error;
			});
		},
	};
	const { open, line, control } = await stand(t, [slow]);
	const socket = await open();
	socket.on("error", () => {}).write(line({ request: "slow" }));
	await until(() => order.length === 1);
	const closing = control.close().then(() => order.push("closed"));
	go();
	await closing;
	assert.deepEqual(order, ["begun", "goes on", "nobody there", "closed"]);
});
