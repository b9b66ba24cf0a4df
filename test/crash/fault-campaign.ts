/** Faults in service: each request is sent while one call of the server fails, and then again. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type Attributes3, FileType3, type Nfs3Client, statusName } from "../support/nfs3-client.ts";
import type { Scratch } from "../support/scratch.ts";
import { runHoldfast, ServerProcess } from "../support/server-process.ts";
import { ERRORS, type FaultReport } from "./fault-order.ts";
import { type FaultyRequest, plantFolders } from "./fault-requests.ts";

export const PRELOAD = pathToFileURL(join(dirname(fileURLToPath(import.meta.url)), "fault-injection.js")).href;

export interface FaultCounts {
	/** Calls of servers that failed, one for each run of a request. */
	places: number;
	/** Runs in which the request was answered with an error. */
	refused: number;
}

export interface FaultOptions {
	/** "hot": what is asked for is in the server's memory; "cold": nothing is. */
	readonly memory: "hot" | "cold";
	readonly handles: "kernel" | "portable";
	readonly errors: readonly string[];
	/** Of this many calls one fails, beginning with number `first`. */
	readonly stride: number;
	readonly first: number;
	readonly fileSystem: string;
}

/** A place whose answer takes longer hangs, and is told by its name. */
const HANG_MS = 60_000;

/** Of a name: what must be as before or as after. */
type Picture = Map<string, string>;

interface Seen {
	/** The place of the fault. */
	readonly where: string;
	readonly handles: ReadonlyMap<string, Buffer>;
	readonly picture: Picture;
}

interface Connection {
	readonly client: Nfs3Client;
	readonly root: Buffer;
}

interface Run {
	readonly server: ServerProcess;
	readonly connection: Connection;
	readonly request: FaultyRequest;
	readonly error: string;
	readonly where: string;
	readonly ended: [folder: number, seen: Seen][];
}

let serial = 0;

/** Faults of one lower with many folders, in servers each with an upper of its own. */
export class FaultCampaign {
	readonly counts: FaultCounts = { places: 0, refused: 0 };
	readonly #scratch: Scratch;
	readonly #lower: string;
	readonly #folders: number;
	readonly #fail: (what: string) => void;

	/** `folders`: more than one run takes, one for each place. */
	constructor(scratch: Scratch, fail: (what: string) => void, folders = 2000) {
		this.#folders = folders;
		this.#scratch = scratch;
		this.#lower = join(scratch.mount("tmpfs", "lowers"), "lower");
		mkdirSync(this.#lower);
		plantFolders(this.#lower, folders);
		this.#fail = fail;
	}

	/** All places of these requests, in one server. */
	async run(requests: readonly FaultyRequest[], options: FaultOptions): Promise<void> {
		const disk = join(options.fileSystem, `upper${serial++}`);
		mkdirSync(disk);
		const [upper, work] = [join(disk, "upper"), join(disk, "work")];
		const small = options.memory === "cold" ? ["--objects-max", "1", "--descriptors-max", "1", "--listing-bytes-max", "1"] : [];
		const server = new ServerProcess({
			lowers: [this.#lower],
			upper,
			work,
			preload: PRELOAD,
			args: ["--state-dir", join(disk, "state"), "--async", "--handles", options.handles, ...small],
		});
		this.#scratch.beforeRemoval(() => server.kill());
		const ended: [folder: number, seen: Seen][] = [];
		let free = 0;
		try {
			for (const request of requests) {
				let connection: Connection | null = null;
				for (const error of options.errors) {
					const where = `${request.name}, ${error}, ${options.memory}, ${options.handles} handles`;
					if (!server.running) await server.start();
					connection ??= await connect(server);
					const run = { server, connection, request, error, where, ended };
					const after = await this.#undisturbed(run, free++);
					for (let at = options.first; free < this.#folders; at += options.stride) {
						const report = await this.#place(run, after, at, free++).catch((failure: Error) => {
							this.#fail(`${where}, call ${at}: ${failure.stack}`);
							return null;
						});
						if (report === null) {
							await server.kill();
							connection = null;
							break;
						}
						if (report.hits === 0) break;
						this.counts.places++;
					}
				}
				connection?.client.close();
			}
			await this.#checkRest(server, ended, ["--lower", this.#lower, "--upper", upper, "--work", work]);
		} catch (error) {
			this.#fail(`${requests.map(({ name }) => name).join(", ")}, ${options.errors}: ${(error as Error).stack}`);
		} finally {
			await server.kill();
		}
		const told = /should not have happened|where it must not|^ {4}at /m.exec(server.stderr);
		if (told !== null) this.#fail(`the server prints ${server.stderr.slice(Math.max(0, told.index - 200), told.index + 600)}`);
	}

	/** What the request makes of its folder. */
	async #undisturbed({ server, connection: { client, root }, request, error, where }: Run, number: number): Promise<Picture> {
		const folder = await client.walk(root, `f${number}`);
		const at = await this.#prepared(client, folder, request);
		const before = await look(client, folder);
		await server.tell({ at: 0, error: ERRORS[error][0], isFrom: false });
		const { status } = await request.send(client, at(before));
		await server.tell("disarm");
		assert.equal(status, 0, `${where}: undisturbed it is answered ${statusName(status)}`);
		return picture(await look(client, folder), before);
	}

	async #prepared(client: Nfs3Client, folder: Buffer, request: FaultyRequest): Promise<(seen: Looked) => (path: string) => Buffer> {
		const at = (seen: Looked) => (path: string) => {
			const found = path === "" ? folder : seen.get(path)?.handle;
			assert.ok(found, `there is no ${path}`);
			return found;
		};
		if (request.prepare !== undefined) {
			const { status } = await request.prepare(client, at(await look(client, folder)));
			assert.equal(status, 0, "a request before");
		}
		return at;
	}

	/** One call fails. Null: the server cannot go on. */
	async #place(run: Run, after: Picture, at: number, number: number): Promise<FaultReport | null> {
		const { server, request, ended } = run;
		const { client, root } = run.connection;
		const folder = await client.walk(root, `f${number}`);
		const of = await this.#prepared(client, folder, request);
		const before = await look(client, folder);
		const beforePicture = picture(before, before);
		const [error, statuses] = ERRORS[run.error];
		await server.tell({ at, error, isFrom: false });
		client.waitsOnJukebox = false;
		const reply = await within(request.send(client, of(before)), server);
		client.waitsOnJukebox = true;
		const report = typeof reply === "string" && reply !== "hangs" ? null : ((await server.tell("disarm")) as FaultReport | null);
		const where = `${run.where}, call ${at}${report === null ? "" : ` (${report.name})`}`;
		if (typeof reply === "string" || report === null) {
			this.#fail(`${where}: ${reply}\n${server.stderr.slice(-2000)}`);
			return null;
		}
		const status = statusName(reply.status);
		if (status !== "ok" && !statuses.includes(status)) this.#fail(`${where}: answered ${status}`);
		const now = picture(await look(client, folder), before);
		const [fromBefore, fromAfter] = [difference(beforePicture, now), difference(after, now)];
		if (status === "ok" && fromAfter !== "") this.#fail(`${where}: answered ok, and then there is\n${fromAfter}`);
		if (status !== "ok") {
			this.counts.refused++;
			// a write that is not on stable storage may be in the file
			const mayBeMade = /^(WRITE|COMMIT)/.test(request.name) && fromAfter === "";
			if (fromBefore !== "" && !mayBeMade) this.#fail(`${where}: answered ${status}, and then there is\n${fromBefore}`);
			const again = await within(request.send(client, of(before)), server);
			if (typeof again === "string") {
				this.#fail(`${where}, sent again: ${again}`);
				return null;
			}
			if (again.status !== 0) this.#fail(`${where}: sent again it is answered ${statusName(again.status)}`);
			const wrong = difference(after, picture(await look(client, folder), before));
			if (again.status === 0 && wrong !== "") this.#fail(`${where}: sent again it leaves\n${wrong}`);
		}
		const last = await look(client, folder);
		ended.push([
			number,
			{ where, handles: new Map([...before].map(([path, { handle }]) => [path, handle])), picture: picture(last, before) },
		]);
		return report;
	}

	/** After a restart all is as it was, and `check` finds nothing. */
	async #checkRest(server: ServerProcess, ended: readonly [number, Seen][], layers: readonly string[]): Promise<void> {
		if (server.running) await server.terminate();
		await server.start();
		const { client, root } = await connect(server);
		for (const [number, { where, handles, picture: expected }] of ended) {
			const looked = await look(client, await client.walk(root, `f${number}`));
			const labels = new Map([...handles].map(([path, handle]) => [path, { handle, attributes: null, content: "" }]));
			const wrong = difference(expected, picture(looked, labels));
			if (wrong !== "") this.#fail(`${where}: after a restart\n${wrong}`);
		}
		client.close();
		await server.terminate();
		const { code, stdout, stderr } = runHoldfast(["check", ...layers]);
		if (code !== 0) this.#fail(`check ends with ${code}\n${stdout}${stderr}`);
	}
}

async function connect(server: ServerProcess): Promise<Connection> {
	const client = await server.client();
	return { client, root: await client.root() };
}

/** The reply, or what became of it. */
async function within<T>(reply: Promise<T>, server: ServerProcess): Promise<T | string> {
	let timer: NodeJS.Timeout | undefined;
	const hangs = new Promise<string>((resolve) => {
		timer = setTimeout(resolve, HANG_MS, "hangs");
	});
	const ended = server.ended.then((how) => `the server ended: ${JSON.stringify(how)}`);
	const lost = (error: Error) => `the connection is lost: ${error.message}`;
	try {
		return await Promise.race([reply.catch(lost), hangs, ended]);
	} finally {
		clearTimeout(timer);
	}
}

interface LookedAt {
	readonly handle: Buffer;
	readonly attributes: Attributes3 | null;
	readonly content: string;
}
type Looked = ReadonlyMap<string, LookedAt>;

async function look(client: Nfs3Client, folder: Buffer): Promise<Looked> {
	const found = new Map<string, LookedAt>();
	for (const [path, { handle, attributes }] of await client.tree(folder)) {
		const isFile = attributes.type === FileType3.reg;
		const content = isFile
			? createHash("sha1")
					.update(await client.readFile(handle))
					.digest("hex")
					.slice(0, 12)
			: "";
		found.set(path, { handle, attributes: await client.attributesOf(handle), content });
	}
	return found;
}

/** One line for each name, with objects by the first name that they had before. */
function picture(seen: Looked, before: Looked): Picture {
	const labels = new Map<string, string>();
	for (const [path, { handle }] of before) if (!labels.has(handle.toString("hex"))) labels.set(handle.toString("hex"), path);
	return new Map(
		[...seen].map(([path, { handle, attributes, content }]) => {
			const { type, mode, uid, gid, nlink, size } = attributes as Attributes3;
			const isDirectory = type === FileType3.dir;
			const links = isDirectory ? "" : ` nlink=${nlink} size=${size}`;
			return [path, `${type} ${mode.toString(8)} ${uid}:${gid}${links} ${content} ${labels.get(handle.toString("hex")) ?? "new"}`];
		}),
	);
}

function difference(expected: Picture, found: Picture): string {
	const lines: string[] = [];
	for (const [path, line] of expected) if (found.get(path) !== line) lines.push(`  - ${path} ${line}`);
	for (const [path, line] of found) if (expected.get(path) !== line) lines.push(`  + ${path} ${line}`);
	return lines.join("\n");
}
