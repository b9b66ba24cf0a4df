// The control socket of a server: takes requests about its exports from commands of its user and of root.

import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { LayerError } from "../layer/layer-error.ts";
import { PathError } from "../overlay/changes/path-in-export.ts";
import { nextTurn } from "../overlay/engine/turns.ts";
import type { OpenedOverlay } from "../overlay/opening/opened-overlay.ts";
import { signControl } from "../overlay/opening/upper-lock.ts";
import { OverlayError } from "../vfs/errors.ts";
import { describeThrown } from "../vfs/system-errors.ts";
import { ControlError } from "./control-error.ts";
import { leaveControlFolder, newControlPath, removeStaleSockets } from "./control-folder.ts";
import { CONTROL_VERSION, type ControlCall, type ControlLine, REQUEST_BYTES_MAX, upperName } from "./control-protocol.ts";
import type { ControlRequest } from "./control-request.ts";
import { listenAt } from "./listen-address.ts";
import { peerOf, processUser } from "./peer.ts";

/** Connections at a time. Beyond it the one goes that has kept this server waiting for the longest time. */
const CONNECTIONS_MAX = 16;
/** How long a peer may take to send its request. */
const REQUEST_MS = 30_000;
/** Of an answer: what is written at once, or after this time. */
const CHUNK_CHARACTERS = 32 * 1024;
const CHUNK_MS = 100;

export interface ControlOptions {
	readonly exports: readonly OpenedOverlay[];
	readonly requests: ReadonlyMap<string, ControlRequest>;
	/** Where the socket may lie if there is no folder of a session. */
	readonly stateFolder: string;
	readonly warn?: (sentence: string) => void;
}

export class ControlSocket {
	readonly #options: ControlOptions;
	readonly #byUpper: ReadonlyMap<string, OpenedOverlay>;
	readonly #user = processUser();
	/** In the order in which they began to wait for their peers. */
	readonly #connections = new Set<ControlConnection>();
	readonly #listener: Server;
	/** Null: there is no place for a socket, or nobody who would look for it. */
	#path: string | null = null;

	constructor(options: ControlOptions) {
		this.#options = options;
		const writable = options.exports.filter(({ upper }) => upper !== null);
		this.#byUpper = new Map(writable.map((opened) => [upperName(opened.upper as string), opened]));
		this.#listener = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
	}

	/** Listens, and says so where the uppers are locked. Without a control socket a server serves all the same. */
	async listen(): Promise<void> {
		const { exports, stateFolder, warn } = this.#options;
		if (this.#byUpper.size === 0) return;
		const path = newControlPath(stateFolder, exports);
		if (path === null) return;
		try {
			await removeStaleSockets(dirname(path));
			await listenAt(this.#listener, { path });
			this.#path = path;
			chmodSync(path, 0o600);
			this.#listener.on("error", () => {});
			for (const { folder } of this.#byUpper.values()) signControl(folder, path);
		} catch (error) {
			warn?.(`Commands cannot ask this server: ${describeThrown(error)}`);
		}
	}

	/** Ends all requests, and resolves when none runs any more. */
	async close(): Promise<void> {
		this.#listener.close();
		if (this.#path !== null) {
			rmSync(this.#path, { force: true });
			leaveControlFolder(dirname(this.#path));
		}
		await Promise.all([...this.#connections].map((connection) => connection.end()));
	}

	#accept(socket: Socket): void {
		// a request may come before the rest of the program is served
		const peer = peerOf(socket, true, this.#user, true);
		if (peer === null || peer.isOtherUser || !this.#makeRoom()) {
			socket.destroy();
			return;
		}
		const connection = new ControlConnection(socket, (call, send) => this.#run(call, send), {
			onWaiting: () => {
				this.#connections.delete(connection);
				this.#connections.add(connection);
			},
			onClosed: () => this.#connections.delete(connection),
		});
		this.#connections.add(connection);
	}

	#makeRoom(): boolean {
		if (this.#connections.size < CONNECTIONS_MAX) return true;
		const victim = [...this.#connections].find(({ isWaiting }) => isWaiting);
		void victim?.end();
		return victim !== undefined;
	}

	async #run(call: ControlCall, send: (item: unknown) => Promise<void>): Promise<unknown> {
		const request = this.#options.requests.get(call.request);
		if (request === undefined) throw new ControlError(`This server knows no request ${JSON.stringify(call.request)}.`, "unknown");
		const opened = this.#byUpper.get(call.upper);
		if (opened === undefined) throw new ControlError("This server does not serve that upper.", "unknown");
		if (typeof call.argument !== "object" || call.argument === null) throw new ControlError("A request has an argument.", "bad");
		return await request.run({ opened, send }, call.argument as Record<string, unknown>);
	}
}

/** The peer is gone, or its answer ends here. */
class Gone extends Error {}

type Run = (call: ControlCall, send: (item: unknown) => Promise<void>) => Promise<unknown>;

/** One peer: its requests are answered one after the other. */
class ControlConnection {
	/** Whether it is the peer's turn: to send, or to take what was sent. */
	isWaiting = true;
	readonly #socket: Socket;
	readonly #run: Run;
	readonly #events: { onWaiting(): void; onClosed(): void };
	#received: Buffer[] = [];
	#receivedBytes = 0;
	#running: Promise<void> | null = null;
	#isRefused = false;
	#text = "";
	#written = 0;

	constructor(socket: Socket, run: Run, events: { onWaiting(): void; onClosed(): void }) {
		this.#socket = socket;
		this.#run = run;
		this.#events = events;
		socket.on("data", (bytes) => this.#take(bytes));
		socket.on("end", () => {
			if (this.#running === null) socket.end();
		});
		socket.on("error", () => {});
		socket.on("close", () => events.onClosed());
		socket.setTimeout(REQUEST_MS, () => {
			if (this.#running === null) socket.destroy();
		});
	}

	/** Resolves when nothing is done for this peer any more. */
	async end(): Promise<void> {
		this.#events.onClosed();
		this.#socket.destroy();
		await this.#running;
	}

	#take(bytes: Buffer): void {
		if (this.#isRefused) return;
		const end = bytes.indexOf(NEWLINE);
		this.#received.push(end < 0 ? bytes : bytes.subarray(0, end));
		this.#receivedBytes += this.#received.at(-1)?.length ?? 0;
		if (this.#receivedBytes > REQUEST_BYTES_MAX) {
			const bound: ControlLine = { error: `A request has at most ${REQUEST_BYTES_MAX} bytes.`, code: "bad", version: CONTROL_VERSION };
			// what is still to come is read, so that the answer arrives
			this.#isRefused = true;
			this.#received = [];
			this.#socket.end(`${JSON.stringify(bound)}\n`);
			return;
		}
		if (end < 0) return;
		const line = Buffer.concat(this.#received).toString();
		this.#received = [];
		this.#receivedBytes = 0;
		this.#socket.pause();
		const rest = bytes.subarray(end + 1);
		if (rest.length > 0) this.#socket.unshift(rest);
		this.#running = this.#answer(line).finally(() => {
			this.#running = null;
			this.#wait();
			if (this.#socket.readableEnded) this.#socket.end();
			else this.#socket.resume();
		});
	}

	#wait(): void {
		this.isWaiting = true;
		this.#events.onWaiting();
	}

	async #answer(line: string): Promise<void> {
		this.isWaiting = false;
		let last: ControlLine;
		try {
			const end = await this.#run(parsed(line), (item) => this.#send({ item }));
			last = { end: end ?? null };
		} catch (error) {
			if (error instanceof Gone) return;
			last = errorLine(error);
		}
		this.#text += `${JSON.stringify(last)}\n`;
		await this.#flush().catch(() => {});
	}

	async #send(line: ControlLine): Promise<void> {
		if (this.#socket.destroyed) throw new Gone();
		this.#text += `${JSON.stringify(line)}\n`;
		if (this.#text.length >= CHUNK_CHARACTERS || performance.now() - this.#written >= CHUNK_MS) await this.#flush();
	}

	/** Resolves when the peer has taken so much of it that there may be more. */
	async #flush(): Promise<void> {
		const isTaken = this.#socket.write(this.#text);
		this.#text = "";
		if (!isTaken && !this.#socket.destroyed) {
			this.#wait();
			await new Promise<void>((resolve) => {
				const go = () => {
					this.#socket.off("drain", go).off("close", go);
					resolve();
				};
				this.#socket.on("drain", go).on("close", go);
			});
			this.isWaiting = false;
		}
		await nextTurn();
		this.#written = performance.now();
		if (this.#socket.destroyed) throw new Gone();
	}
}

const NEWLINE = 0x0a;

/** ControlError: it is no request of this version. */
function parsed(line: string): ControlCall {
	let call: Partial<ControlCall> | null;
	try {
		call = JSON.parse(line);
	} catch {
		throw new ControlError("A request is a line of JSON.", "bad");
	}
	if (typeof call !== "object" || call === null || Array.isArray(call)) throw new ControlError("A request is an object of JSON.", "bad");
	if (call.version !== CONTROL_VERSION) {
		throw new ControlError(
			`This server speaks version ${CONTROL_VERSION} at its control socket: its program is of another time than yours.`,
			"version",
		);
	}
	if (typeof call.request !== "string" || typeof call.upper !== "string")
		throw new ControlError("A request has a name, and the upper it is about.", "bad");
	return call as ControlCall;
}

/** Whose messages are for people. */
const SENTENCES = [ControlError, PathError, LayerError, OverlayError];

function errorLine(error: unknown): ControlLine {
	const code = error instanceof ControlError ? error.code : "refused";
	const isSentence = SENTENCES.some((kind) => error instanceof kind);
	const sentence = isSentence ? (error as Error).message : `The server could not do it: ${describeThrown(error)}.`;
	return { error: sentence, code, version: CONTROL_VERSION };
}
