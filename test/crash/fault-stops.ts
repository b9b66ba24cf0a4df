/** Stops of a real server during which a call fails: it ends with one sentence at most, and the next start finds all that was acknowledged. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Nfs3Client } from "../support/nfs3-client.ts";
import type { Scratch } from "../support/scratch.ts";
import { ServerProcess } from "../support/server-process.ts";
import { PRELOAD } from "./fault-campaign.ts";
import { ERRORS, type FaultReport, formatOrder } from "./fault-order.ts";

export interface FaultyStops {
	readonly lowers: readonly string[];
	/** An empty folder. */
	readonly folder: string;
	readonly handles: "kernel" | "portable";
	readonly errors: readonly string[];
	/** Of so many calls of a stop one fails, beginning with number `first`. */
	readonly stride: number;
	readonly first: number;
}

const NOTHING = { at: 0, error: 0, isFrom: false };
/** What a server may print: each a sentence of its own. */
const SENTENCE = /^holdfast: [A-Z].*\.$/;

/** The number of places tried. */
export async function failStops(scratch: Scratch, given: FaultyStops, fail: (what: string) => void): Promise<number> {
	const { folder, handles, stride, first } = given;
	const reportPath = join(folder, "report");
	const server = new ServerProcess({
		lowers: given.lowers,
		upper: join(folder, "upper"),
		work: join(folder, "work"),
		args: ["--create", "--handles", handles, "--state-dir", join(folder, "state")],
		preload: PRELOAD,
		env: { HOLDFAST_FAULT: formatOrder(NOTHING), HOLDFAST_FAULT_REPORT: reportPath },
	});
	scratch.beforeRemoval(() => server.kill());
	const files = new Map<string, Buffer>();
	let places = 0;
	for (const error of given.errors) {
		for (let at = first; ; at += stride) {
			await server.start();
			await withClient(server, async (client) => {
				const root = await client.root();
				for (const [name, handle] of files) {
					const text = (await client.readFile(handle)).toString();
					if (text !== name) fail(`${name} holds ${text}`);
				}
				const name = `file ${files.size}`;
				files.set(name, await client.createFile(root, name, Buffer.from(name)));
			});
			const told = server.stderr.length;
			await server.tell({ at, error: ERRORS[error][0], isFrom: at % 2 === 0 });
			process.kill(server.pid, "SIGTERM");
			const how = (await server.ended) as { readonly code: number | null };
			await server.kill();
			const { hits, name } = JSON.parse(readFileSync(reportPath, "utf8")) as FaultReport;
			const said = server.stderr.slice(told).trim();
			const where = `stop, ${error}, call ${at} (${name}), ${handles} handles`;
			if (how.code !== 0 && how.code !== 1) fail(`${where}: ${JSON.stringify(how)}: ${said}`);
			else if (how.code === 1 && said === "") fail(`${where}: ends with 1, and says nothing`);
			else if (said !== "" && !said.split("\n").every((line) => SENTENCE.test(line))) fail(`${where}: says ${said}`);
			if (hits === 0) break;
			places++;
		}
	}
	return places;
}

async function withClient(server: ServerProcess, act: (client: Nfs3Client) => Promise<void>): Promise<void> {
	const client = await server.client();
	try {
		await act(client);
	} finally {
		client.close();
	}
}
