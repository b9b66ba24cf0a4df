import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeDisk } from "./disks.mjs";
import { must, runFolder } from "./host.mjs";
import { newLayers, start } from "./servers.mjs";
import { partsToRun } from "./vm-cases.mjs";
import { openMachine, runMachine } from "./vm-machine.mjs";
import { fullSize, makeArchives, quickSize } from "./vm-trees.mjs";

/**
 * A client in a virtual machine, which does all parts one after the other: a session. Cases take their figures out of it, so there are as
 * many sessions as rounds, each with a machine, a file system and a server of its own.
 */

const script = join(dirname(fileURLToPath(import.meta.url)), "vm/work.sh");
const SESSION_SECONDS = 400;
const MEGABYTES = 2048;

export function inMachine() {
	/** By kind: one for each round. */
	const sessions = {};
	/** By case and kind: how many rounds there were. */
	const rounds = new Map();
	let archives;
	const layOut = ({ quick }) => {
		openMachine();
		acknowledge("at once");
		const folder = join(runFolder(), "vm-archives");
		mkdirSync(folder);
		return { folder, files: makeArchives(folder, quick ? quickSize : fullSize) };
	};
	return {
		async measure(entry, kind, settings) {
			archives ??= layOut(settings);
			const key = `${entry.name} ${kind}`;
			const round = rounds.get(key) ?? 0;
			rounds.set(key, round + 1);
			sessions[kind] ??= [];
			sessions[kind][round] ??= await session(kind, archives, partsToRun(settings)).catch((error) => ({ failure: error.message }));
			return resultOf(sessions[kind][round], entry.part);
		},
		async close() {
			acknowledge("delayed");
		},
	};
}

/**
 * The machine's network helper hands a call over in pieces, and waits for the acknowledgement of one before it sends the next. Delayed ones
 * would cost 40 ms for each call of more than 1.4 KB, on every server.
 */
function acknowledge(how) {
	const route = ["local", "127.0.0.1", "dev", "lo", "table", "local", "proto", "kernel", "scope", "host", "src", "127.0.0.1"];
	must("ip", "route", "replace", ...route, "quickack", how === "at once" ? "1" : "0");
}

async function session(kind, { folder, files }, parts) {
	const variables = { ARCHIVES: folder, PARTS: parts.join(" "), FILES: String(files), PORT: "", MOUNT_PORT: "", EXPORT: "", VERSION: "3" };
	if (kind === "knfsd") return outcome(await runMachine(script, variables, { disk: `${MEGABYTES}M`, seconds: SESSION_SECONDS }));
	const disk = makeDisk("ext4", { megabytes: MEGABYTES });
	try {
		const lower = join(disk.path, "lower");
		mkdirSync(lower);
		must("tar", "-x", "-f", join(folder, "lower.tar"), "-C", lower);
		must("sync", "-f", disk.path);
		const server = await start[kind](newLayers(disk.path, "vm", [lower]));
		try {
			const where = {
				PORT: String(server.port),
				MOUNT_PORT: String(server.mountPort),
				EXPORT: server.exportPath,
				VERSION: server.version ?? "3",
			};
			const result = outcome(await runMachine(script, { ...variables, ...where }, { seconds: SESSION_SECONDS }));
			if (!server.isRunning()) result.failure = `the server has ended: ${await server.ended}`;
			return result.failure === null ? { ...result, memory: server.memory() } : result;
		} finally {
			await server.stop();
		}
	} finally {
		disk.remove();
	}
}

/** Seconds, or what went wrong, by part; and what ended all of it. */
function outcome({ lines, failure }) {
	const result = { seconds: {}, failures: {}, failure };
	for (const line of lines) {
		const [, mark, part, rest] = /^@(time|failed) (\S+) (.*)$/.exec(line) ?? [];
		if (mark === "time") result.seconds[part] = Number(rest);
		if (mark === "failed") result.failures[part] = rest;
		if (line.startsWith("@cannot ")) result.failure = `not run: ${line.slice("@cannot ".length)}`;
	}
	return result;
}

function resultOf({ seconds, failures, failure, memory }, part) {
	if (seconds?.[part] !== undefined) return { seconds: seconds[part], memory };
	return { failure: failures?.[part] ?? failure ?? "not run: the machine ended before" };
}
