// A front end with opens, delegations and compounds, over the contract alone: how NFSv4 will use an overlay, without its wire.

import type { AddressedBytes } from "../../src/linux/memory.ts";
import { OverlayError, Pending } from "../../src/vfs/errors.ts";
import type { ChangeKey, ClientRequest, CreateHow, Credentials, OverlayObject, OverlayOperations } from "../../src/vfs/operations.ts";

/** An open file: by whom, and its handle, which is all that is needed to find it again. */
export interface Open {
	readonly client: string;
	readonly handle: Buffer;
}

/** What outlives the front end: as the log of a server would. */
export interface StateLog {
	opens: Map<number, Open>;
	delegations: Map<string, string>;
	nextOpen: number;
}

export function emptyLog(): StateLog {
	return { opens: new Map(), delegations: new Map(), nextOpen: 1 };
}

/** What operations of a compound work with. Objects are good for one pass: only handles are kept over a wait. */
export interface Context {
	readonly overlay: OverlayOperations;
	readonly who: Credentials;
	/** Of this operation. */
	readonly key: ChangeKey;
	current(): OverlayObject;
	setCurrent(object: OverlayObject): void;
	open(): number;
	opened(id: number): OverlayObject;
	close(id: number): void;
	/** Waits until nobody else has the file for itself. */
	recall(object: OverlayObject): void;
	delegate(object: OverlayObject): void;
	returnDelegation(handle: Buffer): void;
}

export type Operation = (context: Context) => unknown;

/** A compound on its way. */
interface Run {
	readonly client: string;
	readonly request: ClientRequest;
	readonly operations: readonly Operation[];
	readonly results: unknown[];
	/** How often each operation was begun. */
	readonly begun: number[];
	current: Buffer | null;
}

export interface CompoundReply {
	readonly results: readonly unknown[];
	/** Null: all were done; else the code of the one behind the results. */
	readonly error: string | null;
	readonly begun: readonly number[];
}

export class StatefulFrontEnd {
	readonly overlay: OverlayOperations;
	readonly log: StateLog;
	readonly who: Credentials;
	/** Called back when somebody else wants a file that a client has for itself, once for each recall. */
	readonly callbacks = new Map<string, (handle: Buffer) => void>();
	readonly #recalls = new Map<string, { readonly ready: Promise<void>; done(): void }>();

	/** Over an overlay that was opened with `restoresHolds`: says what it holds, by its log. */
	constructor(overlay: OverlayOperations, log: StateLog, who: Credentials) {
		this.overlay = overlay;
		this.log = log;
		this.who = who;
		overlay.restoreHolds([...log.opens.values()].map(({ handle }) => handle));
		overlay.endOfRestore();
	}

	/** Runs a compound to its end or its first error. An operation that was done is never done again, however long a later one waits. */
	async compound(client: string, sequence: number, operations: readonly Operation[]): Promise<CompoundReply> {
		const request: ClientRequest = { owner: client, numbers: [sequence, 0, 0, 0, 0, 0, 0] };
		const run: Run = { client, request, operations, results: [], begun: operations.map(() => 0), current: null };
		for (;;) {
			try {
				this.#pass(run);
				return { results: run.results, error: null, begun: run.begun };
			} catch (error) {
				if (error instanceof OverlayError) return { results: run.results, error: error.code, begun: run.begun };
				if (!(error instanceof Pending)) throw error;
				await error.ready;
			}
		}
	}

	/** One synchronous pass, from the first operation that is not done. */
	#pass(run: Run): void {
		const { overlay } = this;
		overlay.beginPass();
		let current = run.current === null ? null : overlay.decode(run.current);
		while (run.results.length < run.operations.length) {
			const number = run.results.length;
			run.begun[number]++;
			const result = run.operations[number](
				this.#context(run, number, {
					get: () => current,
					set: (object) => {
						current = object;
					},
				}),
			);
			run.results.push(result ?? null);
			run.current = current === null ? null : Buffer.from((current as OverlayObject).handle);
		}
	}

	#context(run: Run, number: number, current: { get(): OverlayObject | null; set(object: OverlayObject): void }): Context {
		const { overlay, log, who } = this;
		const now = (): OverlayObject => {
			const object = current.get();
			if (object === null) throw new OverlayError("inval", "There is no current file");
			return object;
		};
		return {
			overlay,
			who,
			key: { request: run.request, change: number },
			current: now,
			setCurrent: (object) => current.set(object),
			open: () => {
				const { handle } = now();
				overlay.hold(handle);
				log.opens.set(log.nextOpen, { client: run.client, handle: Buffer.from(handle) });
				return log.nextOpen++;
			},
			opened: (id) => overlay.decode((log.opens.get(id) as Open).handle),
			close: (id) => {
				overlay.letGo((log.opens.get(id) as Open).handle);
				log.opens.delete(id);
			},
			recall: (object) => this.#recall(run.client, object),
			delegate: ({ handle }) => {
				log.delegations.set(handle.toString("hex"), run.client);
			},
			returnDelegation: (handle) => {
				const key = handle.toString("hex");
				log.delegations.delete(key);
				this.#recalls.get(key)?.done();
				this.#recalls.delete(key);
			},
		};
	}

	#recall(client: string, { handle }: OverlayObject): void {
		const key = handle.toString("hex");
		const owner = this.log.delegations.get(key);
		if (owner === undefined || owner === client) return;
		let recall = this.#recalls.get(key);
		if (recall === undefined) {
			let done = () => {};
			const ready = new Promise<void>((resolve) => {
				done = resolve;
			});
			recall = { ready, done };
			this.#recalls.set(key, recall);
			this.callbacks.get(owner)?.(Buffer.from(handle));
		}
		throw new Pending(recall.ready);
	}
}

export const putRoot: Operation = ({ overlay, setCurrent }) => setCurrent(overlay.root);

export function putHandle(handle: Buffer): Operation {
	return ({ overlay, setCurrent }) => setCurrent(overlay.decode(handle));
}

export function lookup(name: string): Operation {
	return ({ overlay, who, current, setCurrent }) => {
		const found = overlay.lookup(current(), Buffer.from(name), who);
		if (found === null) throw new OverlayError("noent", name);
		setCurrent(found);
	};
}

export const open: Operation = (context) => context.open();

/** Tells whether it made the file, which is the current one then. */
export function create(name: string, how: CreateHow): Operation {
	return ({ overlay, who, key, current, setCurrent }) => {
		const { object, made } = overlay.create(current(), Buffer.from(name), who, how, key);
		setCurrent(object);
		return made;
	};
}

export function mkdir(name: string): Operation {
	return ({ overlay, who, key, current }) => {
		overlay.mkdir(current(), Buffer.from(name), who, {}, key);
	};
}

export function remove(name: string): Operation {
	return ({ overlay, who, key, current }) => overlay.remove(current(), Buffer.from(name), who, key);
}

export function rename(from: string, to: string): Operation {
	return ({ overlay, who, key, current }) => overlay.rename(current(), Buffer.from(from), current(), Buffer.from(to), who, key);
}

export function write(id: () => number, offset: number, text: string): Operation {
	return ({ overlay, who, opened }) => overlay.write(opened(id()), who, offset, Buffer.from(text), "open");
}

export function read(id: () => number, buffer: AddressedBytes): Operation {
	return ({ overlay, who, opened }) => {
		const { count } = overlay.read(opened(id()), who, 0, buffer.bytes.length, buffer, 0, "open");
		return buffer.bytes.toString("latin1", 0, count);
	};
}

export const nlink: Operation = ({ overlay, current }) => overlay.getattr(current()).nlink;
export const names: Operation = ({ overlay, who, current }) => {
	const found: string[] = [];
	const cursor = overlay.list(current(), who, 0, 2);
	while (cursor.next()) found.push(Buffer.from(cursor.name).toString());
	return found.sort();
};
