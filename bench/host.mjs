import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * What a run needs of its host, and what keeps it apart from the rest of it: it has namespaces of its own for processes, mounts and the
 * network. When it ends, in whatever way, the kernel ends all servers and takes all mounts back with them, and only a folder is left to
 * remove. No port is taken and nothing is registered outside.
 */

export const repository = join(dirname(fileURLToPath(import.meta.url)), "..");
const PREFIX = "holdfast-bench-";
/** Names the folder of the run, to the process inside. */
const FOLDER = "HOLDFAST_BENCH_FOLDER";

/** What is called, and Debian's package that has it. */
const programs = {
	"ganesha.nfsd": "nfs-ganesha",
	rpcbind: "rpcbind",
	"fuse-overlayfs": "fuse-overlayfs",
	gcc: "gcc",
	make: "make",
	git: "git",
	"mkfs.ext4": "e2fsprogs",
	"mkfs.xfs": "xfsprogs",
	"mkfs.btrfs": "btrfs-progs",
	unshare: "util-linux",
	setpriv: "util-linux",
	ip: "iproute2",
};
const files = {
	"/usr/include/nfsc/libnfs.h": "libnfs-dev",
	"/usr/lib/x86_64-linux-gnu/ganesha/libfsalvfs.so": "nfs-ganesha-vfs",
};

/** Installs the peers, compiles the server and the client. Returns why that cannot be. */
export function prepareHost() {
	if (process.platform !== "linux") return "Linux is needed: this compares with the kernel's overlayfs";
	if (process.getuid() !== 0) return "root is needed: for mounts, for file handles and for nfs-ganesha; run it with sudo";
	const lacking = installPackages();
	if (lacking.length > 0) return `these packages are missing and could not be installed: ${lacking.join(", ")}`;
	const steps = [[join(repository, "scripts/build.sh")], ["make", "-s", "-C", join(repository, "bench/nfsload"), "all"]];
	for (const [command, ...args] of steps) {
		if (spawnSync(command, args, { stdio: ["ignore", 2, 2] }).status !== 0) return `${command} failed`;
	}
	return null;
}

function missingPackages() {
	const folders = `${process.env.PATH}:/usr/sbin:/sbin`.split(":");
	const lacking = new Set();
	for (const [program, name] of Object.entries(programs)) {
		if (!folders.some((folder) => existsSync(join(folder, program)))) lacking.add(name);
	}
	for (const [file, name] of Object.entries(files)) {
		// Libraries lie in a folder named after the processor.
		const places = [file, file.replace("x86_64", process.arch === "arm64" ? "aarch64" : process.arch)];
		if (!places.some((place) => existsSync(place))) lacking.add(name);
	}
	return [...lacking];
}

function installPackages() {
	const lacking = missingPackages();
	if (lacking.length === 0) return [];
	console.error(`bench: installing ${lacking.join(", ")}`);
	const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
	const run = (...args) => spawnSync("apt-get", ["-qq", ...args], { env, stdio: ["ignore", 2, 2] }).status === 0;
	if (run("update")) run("install", "-y", "--no-install-recommends", ...lacking);
	return missingPackages();
}

export function insideNamespaces() {
	return process.env[FOLDER] !== undefined;
}

/** The folder of this run, to the process inside. */
export function runFolder() {
	return process.env[FOLDER];
}

/** Becomes the same command in namespaces of its own; resolves to its exit status when the folder is removed. */
export async function runInNamespaces() {
	removeLeftovers();
	const folder = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
	copyProgram(join(folder, "program"));
	for (const client of ["nfsload", "nfs41load", "mountload"]) cpSync(join(repository, "bench/nfsload", client), join(folder, client));
	const unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"];
	const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...unshare, process.execPath, ...process.argv.slice(1)], {
		stdio: "inherit",
		env: { ...process.env, [FOLDER]: folder, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
	});
	// Ctrl-C reaches the child too; unshare is told the others, and takes all inside with it.
	let interrupted = false;
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
		process.on(signal, () => {
			interrupted = true;
			child.kill("SIGKILL");
		});
	}
	const status = await new Promise((resolve) => child.on("close", (code) => resolve(code ?? 1)));
	rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
	return interrupted ? 130 : status;
}

/** Processes are started all the time, and somebody may compile or install meanwhile. */
function copyProgram(to) {
	const { packages } = JSON.parse(readFileSync(join(repository, "package-lock.json"), "utf8"));
	const needed = Object.keys(packages).filter((path) => path !== "" && !packages[path].dev && existsSync(join(repository, path)));
	for (const path of ["dist/src", "dist/holdfast.js", "dist/bundled", "package.json", ...needed])
		cpSync(join(repository, path), join(to, path), { recursive: true });
}

/** What runs left that were killed: their mounts went with them. */
function removeLeftovers() {
	for (const name of readdirSync(tmpdir())) {
		const owner = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
		if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
		rmSync(join(tmpdir(), name), { recursive: true, force: true, maxRetries: 3 });
	}
}

/** Inside: the loopback interface, and what nfs-ganesha wants to find at fixed places. */
export function prepareNamespaces() {
	must("ip", "link", "set", "lo", "up");
	for (const folder of ["/run", "/var/lib/nfs"]) {
		mkdirSync(folder, { recursive: true });
		must("mount", "-t", "tmpfs", "holdfast-bench", folder);
	}
	for (const folder of ["/run/rpcbind", "/run/ganesha", "/var/lib/nfs/ganesha"]) mkdirSync(folder, { recursive: true });
	// It waits a quarter of a minute for an rpcbind that is not there.
	must("rpcbind");
}

/** Runs a command to its end, which must be a success. */
export function must(command, ...args) {
	const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", maxBuffer: 1 << 26 });
	if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${(error?.message ?? stderr.trim()) || `exit status ${status}`}`);
	return stdout;
}
