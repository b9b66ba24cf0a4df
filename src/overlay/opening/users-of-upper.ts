// Who else uses an upper at this moment, or owns what lies in its work folder: asked by all that writes to either.

import { lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { basename, isAbsolute, join } from "node:path";
import { LayerError } from "../../layer/layer-error.ts";
import { mountAround, mountTable } from "../../linux/mount-table.ts";
import { isMountedUpper } from "../../linux/overlay-mount.ts";
import { fstat, Stat } from "../../linux/stat.ts";

/**
 * Who writes to an upper beside us: a mounted overlay of the kernel or of fuse-overlayfs. Null: nobody is known. `upper`: its path, and
 * a descriptor of it. Half a sentence.
 */
export function otherWriter(upper: { readonly path: string; readonly fd: number }): string | null {
	const isMounted = isMountedUpper(upper.path);
	if (isMounted === true) return "it is the upper of a kernel overlay that is mounted now (perhaps in another mount namespace)";
	const stat = new Stat();
	fstat(upper.fd, stat);
	const namespaces = new Set<string>();
	for (const pid of processes()) {
		if (readText(`/proc/${pid}/comm`) === "fuse-overlayfs\n" && holdsOpen(pid, stat)) {
			return `fuse-overlayfs has it mounted now (process ${pid})`;
		}
		const namespace = isMounted === null ? readNamespace(pid) : null;
		if (namespace === null || namespaces.has(namespace)) continue;
		namespaces.add(namespace);
		if (isMountedIn(pid, upper.path, stat)) {
			return `a kernel overlay that has it as its upper is mounted now, where the process ${pid} runs`;
		}
	}
	return null;
}

/** LayerError: somebody else writes to the upper at this moment. `act`: what is not done. */
export function refuseOtherWriter(upper: { readonly path: string; readonly fd: number }, act: "serve" | "repair"): void {
	const who = otherWriter(upper);
	if (who !== null) throw new LayerError(`Cannot ${act} the upper ${upper.path}: ${who}. Unmount that first; both would write to it.`);
}

/**
 * LayerError where an ordinary user has served or mounted the upper and this process is another one, above all root: what it made there would
 * be its own, and lock that user out.
 */
export function refuseOthersWork(upper: string, work: string): void {
	const me = process.geteuid?.() ?? 0;
	for (const name of ["holdfast", "work"]) {
		const owner = lstatSync(join(work, name), { throwIfNoEntry: false })?.uid;
		if (owner === undefined) continue;
		if (owner === me) return;
		const did = name === "holdfast" ? "served" : "mounted";
		throw new LayerError(
			`Cannot use the upper ${upper} as user ${me}: user ${owner} has ${did} it, and what somebody else made in ${work} would lock that user ` +
				`out. Run holdfast as that user (sudo -u '#${owner}'), or begin with an upper and work of your own.`,
		);
	}
}

function processes(): string[] {
	try {
		return readdirSync("/proc").filter((name) => /^\d+$/.test(name));
	} catch {
		return [];
	}
}

function readText(path: string): string {
	try {
		return readFileSync(path, "latin1");
	} catch {
		return "";
	}
}

/** Null where this process may not ask. */
function readNamespace(pid: string): string | null {
	try {
		return readlinkSync(`/proc/${pid}/ns/mnt`);
	} catch {
		return null;
	}
}

/** fuse-overlayfs keeps the directory of its upper open. */
function holdsOpen(pid: string, upper: Stat): boolean {
	const folder = `/proc/${pid}/fd`;
	try {
		return readdirSync(folder).some((fd) => isSameInode(join(folder, fd), upper));
	} catch {
		return false;
	}
}

/** False where this process cannot look: who has the upper open can look at it, unless it lies in a folder that is closed to who serves it. */
function isSameInode(path: string, stat: Stat): boolean {
	try {
		const found = statSync(path, { bigint: true });
		return BigInt.asUintN(64, found.ino) === (BigInt(stat.inoHi) << 32n) + BigInt(stat.inoLo) && isDevice(found.dev, stat);
	} catch {
		return false;
	}
}

/** By the encoding of gnu_dev_major(3). */
function isDevice(device: bigint, { devMajor, devMinor }: Stat): boolean {
	const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
	const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
	return major === BigInt(devMajor) && minor === BigInt(devMinor);
}

/** For who may not ask the kernel: what the mounts say that a process of the same user sees. A relative path there may be any of that name. */
function isMountedIn(pid: string, upper: string, stat: Stat): boolean {
	const table = readText(`/proc/${pid}/mountinfo`);
	for (const line of table.split("\n")) {
		const [, options] = line.split(" - overlay ");
		const named = options === undefined ? null : /(?:^|[ ,])upperdir=((?:[^\\,]|\\.)*)/.exec(options);
		if (named === null) continue;
		const path = Buffer.from(
			named[1].replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
			"latin1",
		)
			.toString()
			.replace(/\\(.)/g, "$1");
		if (!isAbsolute(path)) {
			if (basename(path) === basename(upper)) return true;
		} else if (mayLieOn(table, path, `${stat.devMajor}:${stat.devMinor}`) && isSameInode(`/proc/${pid}/root${path}`, stat)) return true;
	}
	return false;
}

/** File systems whose server may not answer: this program may be that server. */
const REMOTE = /^(nfs4?|cifs|smb3|9p|ceph|afs|autofs|fuse(\..*)?)$/;

/**
 * Whether a path can lead to a file system, by a table of mounts (proc_pid_mountinfo(5)): to look at what lies on another one that is remote could take
 * for ever. Of any other the device tells nothing, as of subvolumes.
 */
export function mayLieOn(table: string, path: string, device: string): boolean {
	const mount = mountAround(path, mountTable(table.split("\n")));
	return mount === null || !REMOTE.test(mount.type) || mount.device === device;
}
