// The list's adapter for a folder that this kernel shows: a plain one, or a mount of whatever is to be tried.

import { execFileSync } from "node:child_process";
import {
	type BigIntStats,
	chmodSync,
	closeSync,
	constants,
	fstatSync,
	ftruncateSync,
	lchownSync,
	linkSync,
	lstatSync,
	lutimesSync,
	mkdirSync,
	openSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	renameSync,
	rmdirSync,
	symlinkSync,
	unlinkSync,
	writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { type Calls, type FrontEnd, type NewTime, type ObjectType, type OpenFile, type PosixStat, Refusal, type Who } from "./front-end.ts";

/** The process must be root's: it takes the ids of a user for each call. */
export function localFrontEnd(name: string, top: string): FrontEnd {
	process.umask(0);
	return { name, keepsUnlinked: true, as: (who, folder) => callsOf(join(top, folder), who) };
}

/** Runs a call with the ids of a user, and tells its error by name. */
function by<T>(who: Who, what: string, call: () => T): Promise<T> {
	const groups = process.getgroups?.() ?? [];
	try {
		process.setgroups?.([...(who.gids ?? [])]);
		process.setegid?.(who.gid);
		process.seteuid?.(who.uid);
		return Promise.resolve(call());
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		return Promise.reject(code === undefined ? error : new Refusal(code, what));
	} finally {
		process.seteuid?.(0);
		process.setegid?.(0);
		process.setgroups?.(groups);
	}
}

function callsOf(top: string, who: Who): Calls {
	// not join, which would take "." and ".." away
	const at = (path: string) => `${top}/${path}`;
	const run = <T>(what: string, call: () => T) => by(who, what, call);
	return {
		stat: (path) => run(`stat ${path}`, () => statOf(lstatSync(at(path), { bigint: true }))),
		list: (path) => run(`list ${path}`, () => readdirSync(at(path)).sort()),
		readlink: (path) => run(`readlink ${path}`, () => readlinkSync(at(path))),
		create: (path, mode = 0o644) => run(`create ${path}`, () => closeSync(openSync(at(path), "wx", mode))),
		open: (path, write) =>
			run(`open ${path}`, () => openFile(openSync(at(path), (write ? constants.O_RDWR : constants.O_RDONLY) | constants.O_NOFOLLOW), who)),
		mkdir: (path, mode = 0o755) => run(`mkdir ${path}`, () => mkdirSync(at(path), mode)),
		symlink: (target, path) => run(`symlink ${path}`, () => symlinkSync(target, at(path))),
		mknod: (path, type, mode, major = 0, minor = 0) => run(`mknod ${path}`, () => mknod(at(path), type, mode, major, minor)),
		link: (from, to) => run(`link ${from} ${to}`, () => linkSync(at(from), at(to))),
		unlink: (path) => run(`unlink ${path}`, () => unlinkSync(at(path))),
		rmdir: (path) => run(`rmdir ${path}`, () => rmdirSync(at(path))),
		rename: (from, to) => run(`rename ${from} ${to}`, () => renameSync(at(from), at(to))),
		chmod: (path, mode) => run(`chmod ${path}`, () => chmodSync(at(path), mode)),
		chown: (path, uid, gid) => run(`chown ${path}`, () => lchownSync(at(path), uid ?? 0xffffffff, gid ?? 0xffffffff)),
		truncate: (path, size) =>
			run(`truncate ${path}`, () => {
				const fd = openSync(at(path), constants.O_WRONLY | constants.O_NOFOLLOW);
				try {
					ftruncateSync(fd, Number(size));
				} finally {
					closeSync(fd);
				}
			}),
		utimes: (path, atime, mtime) => run(`utimes ${path}`, () => setTimes(at(path), atime, mtime)),
	};
}

/** Node has no mknod; the programs have the ids of their parent's user. */
function mknod(at: string, type: "fifo" | "socket" | "character" | "block", mode: number, major: number, minor: number): void {
	const octal = mode.toString(8);
	// the path of a socket is short
	if (type === "socket") runProgram("perl", ["-e", BIND, basename(at), octal], dirname(at));
	else if (type === "fifo") runProgram("mknod", ["-m", octal, at, "p"]);
	else runProgram("mknod", ["-m", octal, at, type === "block" ? "b" : "c", `${major}`, `${minor}`]);
}

function runProgram(program: string, args: readonly string[], cwd = "/"): void {
	try {
		execFileSync(program, args, { cwd, stdio: "pipe", env: { ...process.env, LC_ALL: "C" } });
	} catch (error) {
		const said = String((error as { stderr: Buffer }).stderr);
		const code = MESSAGES.find(([message]) => said.includes(message))?.[1] ?? `unknown error "${said}"`;
		throw Object.assign(new Error(said), { code });
	}
}

const BIND =
	"use Socket; my $s; socket($s, PF_UNIX, SOCK_STREAM, 0) && bind($s, pack_sockaddr_un($ARGV[0])) && chmod(oct($ARGV[1]), $ARGV[0]) or die $!";

const MESSAGES = [
	["File exists", "EEXIST"],
	["Operation not permitted", "EPERM"],
	["Permission denied", "EACCES"],
	["No such file", "ENOENT"],
	["Not a directory", "ENOTDIR"],
	["name too long", "ENAMETOOLONG"],
] as const;

function setTimes(at: string, atime: NewTime, mtime: NewTime): void {
	// another right than to set them to any time
	if (atime === "now" && mtime === "now") {
		runProgram("touch", ["--no-create", "--no-dereference", at]);
		return;
	}
	const stat = lstatSync(at, { bigint: true });
	const seconds = (time: NewTime, old: bigint) => (time === "now" ? Date.now() / 1000 : Number((time ?? old) / 1000n) / 1e6);
	lutimesSync(at, seconds(atime, stat.atimeNs), seconds(mtime, stat.mtimeNs));
}

function openFile(fd: number, who: Who): OpenFile {
	return {
		read: () =>
			by(who, "read", () => {
				const size = fstatSync(fd).size;
				return readFileSync(`/proc/self/fd/${fd}`).subarray(0, size).toString();
			}),
		write: (offset, text) => by(who, "write", () => void writeSync(fd, text, offset)),
		stat: () => by(who, "fstat", () => statOf(fstatSync(fd, { bigint: true }))),
		close: async () => closeSync(fd),
	};
}

function typeOf(stat: BigIntStats): ObjectType {
	if (stat.isFile()) return "file";
	if (stat.isDirectory()) return "directory";
	if (stat.isSymbolicLink()) return "symlink";
	if (stat.isFIFO()) return "fifo";
	if (stat.isSocket()) return "socket";
	return stat.isBlockDevice() ? "block" : "character";
}

function statOf(stat: BigIntStats): PosixStat {
	const rdev = Number(stat.rdev);
	return {
		type: typeOf(stat),
		mode: Number(stat.mode & 0o7777n),
		nlink: Number(stat.nlink),
		uid: Number(stat.uid),
		gid: Number(stat.gid),
		size: stat.size,
		ino: stat.ino,
		atime: stat.atimeNs,
		mtime: stat.mtimeNs,
		ctime: stat.ctimeNs,
		rdev: [(rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00)],
	};
}
