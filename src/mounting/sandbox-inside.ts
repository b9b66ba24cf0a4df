// A program of its own, run as the first in the namespaces of a sandbox: makes its mounts, sends the descriptors of the views by socket 3, and ends when all is there.

import { existsSync, mkdirSync, readSync, statSync, writeFileSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { sendDescriptor } from "../linux/descriptor-passing.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { MS, mountAt, setReadOnly } from "../linux/mount.ts";
import { close, O, openPath } from "../linux/open.ts";
import { mountHere } from "./mount-here.ts";
import { isSameOrBelow, type SandboxRequest } from "./sandbox-request.ts";

/** `REASONS`: a pipe to whoever has started this, as unshare(1)'s own reasons go. */
const [REASONS, SOCKET] = [2, 3];
/** The parts of /proc that change the machine. */
const MACHINE = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];

/** Half a sentence for the user. */
class Refusal extends Error {}

function check(status: number, attempt: string, path: string): void {
	if (status < 0) throw new Refusal(`${attempt} ${path}: ${whyNot(status, path)}`);
}

function make({ views, writable, private: own, hidden, closed }: SandboxRequest): void {
	const isCovered = (path: string) => own.some((folder) => isSameOrBelow(path, folder));
	const held = writable.filter(isCovered).map((path) => ({ path, fd: openPath(path, O.path), isFolder: statSync(path).isDirectory() }));
	// before all is read-only: what is writable afterwards are mounts of their own
	const plain = writable.filter((path) => !isCovered(path));
	for (const path of [...plain, ...closed.filter((path) => !isCovered(path) && existsSync(path))]) bind(path, path);
	check(setReadOnly("/", true, true), "make read-only", "/");
	for (const path of plain) open(path);
	for (const path of closed) if (existsSync(path)) setReadOnly(path, true, true);
	for (const folder of own) check(mountAt("holdfast", folder, "tmpfs", MS.nosuid | MS.nodev, "mode=1777"), "make a private", folder);
	for (const { path, fd, isFolder } of held) {
		makePoint(path, isFolder);
		bind(`/proc/self/fd/${fd}`, path);
		close(fd);
		open(path);
	}
	ownProc();
	for (const view of views) {
		if (isCovered(view)) makePoint(view, true);
		const options = { isReadOnly: false, allowsOther: true, isNodev: true, isNosuid: true };
		const fd = mountHere({ ...options, point: view, source: "holdfast" });
		if (typeof fd === "string") throw new Refusal(fd);
		check(sendDescriptor(SOCKET, fd), "pass on the view of", view);
		close(fd);
	}
	// the views are served from here on
	if (readSync(SOCKET, Buffer.alloc(1)) !== 1) throw new Refusal("the session ended");
	for (const path of hidden) hide(path);
	writeSync(SOCKET, "\n");
}

function bind(source: string, target: string): void {
	check(mountAt(source, target, "none", MS.bind | MS.rec, ""), "mount", target);
}

/** What was read-only outside stays so. */
function open(path: string): void {
	if (setReadOnly(path, false, true) === 0) return;
	const status = setReadOnly(path, false, false);
	if (status !== -ERRNO.EPERM) check(status, "make writable", path);
}

/** A place to mount at, in a private folder. */
function makePoint(path: string, isFolder: boolean): void {
	mkdirSync(isFolder ? path : dirname(path), { recursive: true });
	if (!isFolder) writeFileSync(path, "");
}

/** Where it may not be made, as in many containers, the processes outside are seen too. */
function ownProc(): void {
	if (mountAt("proc", "/proc", "proc", MS.nosuid | MS.nodev | MS.noexec, "") < 0) return;
	for (const path of MACHINE) {
		if (mountAt(path, path, "none", MS.bind | MS.rec, "") === 0) setReadOnly(path, true, true);
	}
}

function hide(path: string): void {
	const stat = statSync(path, { throwIfNoEntry: false });
	if (stat === undefined) return;
	if (!stat.isDirectory()) bind("/dev/null", path);
	else check(mountAt("holdfast", path, "tmpfs", MS.rdonly | MS.nosuid | MS.nodev, "mode=0555"), "hide", path);
}

try {
	make(JSON.parse(process.argv[2] ?? "") as SandboxRequest);
} catch (error) {
	const { errno, path, message } = error as NodeJS.ErrnoException;
	writeSync(REASONS, `${errno === undefined ? message : `${path}: ${whyNot(errno, path)}`}\n`);
	process.exitCode = 1;
}
