import { spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync, stat, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { must, runFolder } from "./host.mjs";

/**
 * Holdfast and its peers, each over layers of its own: `start[kind](layers)`. Layers are `{ lowers, upper, work, merged }`, of which
 * `merged` is where a peer that is a mount shows them. A server has a port, and a `version` of NFS if it is not 3; a mount has a `root`, and
 * programs work on it themselves.
 */

const START_MS = 60_000;
const STOP_MS = 30_000;
/** Where nfs-ganesha shows its export to version 4. */
const PSEUDO = "/merged";
const overlayOptions = "index=on,nfs_export=on,redirect_dir=on";
let ports = 20_000;
let started = 0;

export const start = {
	holdfast,
	ganesha,
	"holdfast-4.1": async (layers) => ({ ...(await holdfast(layers)), version: "4.1" }),
	"ganesha-4.1": async (layers) => ({ ...(await ganesha(layers)), version: "4.1", exportPath: PSEUDO }),
	kernel,
	"fuse-overlayfs": fuseOverlayfs,
	"holdfast-mount": holdfastMount,
	"kernel-handles": (layers) => holdfast(layers, ["--handles", "kernel"]),
	"portable-handles": (layers) => holdfast(layers, ["--handles", "portable"]),
};

/** Folders for the layers of one server: an empty upper on `disk`, over lowers. */
export function newLayers(disk, name, lowers) {
	const layers = {
		lowers,
		upper: join(disk, `${name}-upper`),
		work: join(disk, `${name}-work`),
		merged: join(runFolder(), `${name}-merged`),
	};
	for (const folder of [layers.upper, layers.work, layers.merged]) mkdirSync(folder, { recursive: true });
	return layers;
}

async function holdfast(layers, more = []) {
	const port = ++ports;
	return server("holdfast", port, { mountPort: port, exportPath: "/" }, process.execPath, [
		...commandOf("serve", layers),
		...["--listen", `127.0.0.1:${port}`, "--async", "--insecure"],
		...more,
	]);
}

function commandOf(name, { lowers, upper, work }) {
	return [
		// as the launcher does
		"--min-semi-space-size=16",
		join(runFolder(), "program/dist/holdfast.js"),
		name,
		...lowers.flatMap((lower) => ["--lower", lower]),
		...["--create", "--upper", upper, "--work", join(work, "holdfast"), "--state-dir", join(runFolder(), "state")],
	];
}

async function holdfastMount(layers) {
	const keeper = spawnLogged("holdfast", process.execPath, [...commandOf("mount", layers), layers.merged]);
	await untilMounted(keeper, layers.merged);
	const pid = Number(readFileSync(`/proc/${keeper.pid}/task/${keeper.pid}/children`, "utf8").trim().split(" ")[0]);
	return { ...mounted("holdfast-mount", keeper, layers.merged), pid, memory: () => memoryOf(pid) };
}

async function ganesha(layers) {
	const port = ++ports;
	const mountPort = ++ports;
	const unmount = mountOverlay(layers);
	const place = join(runFolder(), `ganesha-${++started}`);
	writeFileSync(`${place}.conf`, ganeshaConfiguration(layers.merged, port, mountPort));
	const args = ["-F", "-f", `${place}.conf`, "-L", `${place}.log`, "-p", `${place}.pid`];
	try {
		return await server("ganesha", port, { mountPort, exportPath: layers.merged, afterwards: unmount }, "ganesha.nfsd", args);
	} catch (error) {
		unmount();
		throw error;
	}
}

function ganeshaConfiguration(merged, port, mountPort) {
	return `NFS_CORE_PARAM {
	NFS_Port = ${port}; MNT_Port = ${mountPort};
	Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
	Protocols = 3, 4; NSM_Use_Caller_Name = false; fsid_device = true;
}
NFSV4 {
	Graceless = true; Lease_Lifetime = 60; Minor_Versions = 0, 1, 2;
	RecoveryBackend = fs; Only_Numeric_Owners = true;
}
EXPORT_DEFAULTS { Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 3, 4; Transports = TCP; }
EXPORT { Export_Id = 1; Path = ${merged}; Pseudo = ${PSEUDO}; FSAL { Name = VFS; } }
`;
}

async function kernel(layers) {
	const unmount = mountOverlay(layers);
	// What the kernel does for a mount, it does in the process that asked.
	return { kind: "kernel", root: layers.merged, pid: process.pid, stop: async () => unmount() };
}

function mountOverlay({ lowers, upper, work, merged }) {
	mkdirSync(join(work, "kernel"), { recursive: true });
	const layers = `lowerdir=${lowers.join(":")},upperdir=${upper},workdir=${join(work, "kernel")}`;
	must("mount", "-t", "overlay", "-o", `${layers},${overlayOptions}`, "holdfast-bench", merged);
	return () => must("umount", merged);
}

async function fuseOverlayfs({ lowers, upper, work, merged }) {
	mkdirSync(join(work, "fuse"), { recursive: true });
	const layers = `lowerdir=${lowers.join(":")},upperdir=${upper},workdir=${join(work, "fuse")}`;
	const child = spawnLogged("fuse-overlayfs", "fuse-overlayfs", ["-f", "-o", layers, merged]);
	await untilMounted(child, merged);
	return mounted("fuse-overlayfs", child, merged);
}

/** Something that is asked of a mount that is not served yet would wait for it. */
async function untilMounted(child, merged) {
	const isMounted = () => readFileSync("/proc/self/mountinfo", "utf8").includes(` ${merged} `);
	await until(child, async () => isMounted());
	await new Promise((resolve, reject) => stat(merged, (error) => (error === null ? resolve() : reject(error))));
}

function mounted(kind, child, merged) {
	return {
		kind,
		root: merged,
		pid: child.pid,
		async stop() {
			must("umount", merged);
			await end(child);
		},
	};
}

/** A process that answers at a port. `afterwards` is done when it has ended. */
async function server(kind, port, { afterwards = () => {}, ...where }, command, args) {
	const begun = performance.now();
	const child = spawnLogged(kind, command, args);
	await until(child, () => answers(port));
	return {
		kind,
		port,
		...where,
		pid: child.pid,
		startMs: performance.now() - begun,
		/** Loads that it has been warmed up with. */
		warmedUp: new Set(),
		ended: child.ended,
		isRunning: () => child.exitCode === null && child.signalCode === null,
		memory: () => memoryOf(child.pid),
		async stop() {
			await end(child);
			afterwards();
		},
	};
}

function spawnLogged(kind, command, args) {
	const log = join(runFolder(), `${kind}.log`);
	const output = openSync(log, "w");
	const child = spawn(command, args, { stdio: ["ignore", output, output] });
	child.log = log;
	child.ended = new Promise((resolve) => {
		child.on("error", (error) => resolve(error.message));
		child.on("exit", (code, signal) => resolve(`it ended with ${code ?? signal}: ${complaintIn(log)}`));
	});
	return child;
}

/** The line of a log that most likely tells why. */
function complaintIn(log) {
	const lines = readFileSync(log, "utf8").trim().split("\n");
	return (lines.find((line) => /error|fail/i.test(line)) ?? lines.at(-1)).slice(0, 200) || "it said nothing";
}

async function until(child, condition) {
	const limit = performance.now() + START_MS;
	let why;
	child.ended.then((reason) => {
		why = reason;
	});
	while (!(await condition())) {
		if (why === undefined && performance.now() > limit) {
			child.kill("SIGKILL");
			why = `not ready after ${START_MS / 1000} s`;
		}
		if (why !== undefined) throw new Error(`${child.spawnfile} did not start: ${why}`);
		await new Promise((resolve) => setTimeout(resolve, 1));
	}
}

/** Whether NULL of NFS version 3 is answered. A port alone may be open before its server works. */
function answers(port) {
	const call = Buffer.alloc(44);
	const words = [0x80000028, 1, 0, 2, 100003, 3];
	words.forEach((word, at) => {
		call.writeUInt32BE(word, at * 4);
	});
	return new Promise((resolve) => {
		const socket = createConnection(port, "127.0.0.1", () => socket.write(call));
		const done = (up) => {
			socket.destroy();
			resolve(up);
		};
		socket.setTimeout(5000, () => done(false));
		socket.on("data", () => done(true));
		socket.on("error", () => done(false));
		socket.on("close", () => done(false));
	});
}

async function end(child) {
	child.kill("SIGTERM");
	const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
	await child.ended;
	clearTimeout(timer);
}

/** In bytes: what is resident now, and the most that ever was. */
function memoryOf(pid) {
	const status = readFileSync(`/proc/${pid}/status`, "utf8");
	const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)[1]) * 1024;
	return { resident: field("VmRSS"), peak: field("VmHWM") };
}

/** Bytes that the process has made dirty in the page cache since it started, what the kernel copied for it included. */
export function bytesWrittenBy(pid) {
	return Number(/^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))[1]);
}
