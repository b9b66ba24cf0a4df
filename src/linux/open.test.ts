// Descriptors opened beneath directories, and no further.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Worker } from "node:worker_threads";
import { missing, needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { ERRNO } from "./errno.ts";
import { handleAt, openByHandle } from "./file-handle.ts";
import { makeNode } from "./names.ts";
import { close, descriptorPath, duplicate, O, openAt, openBeneath, openPath, RESOLVE } from "./open.ts";
import { readFileNamed } from "./read-file.ts";
import { fstat, Stat } from "./stat.ts";

/** A folder with its descriptor, and a way to open things in it that are closed again when the test ends. */
function fixture(context: TestContext) {
	const folder = scratch(context);
	const keep = (fd: number) => {
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	return { folder, keep, directory: keep(openPath(folder.path, O.rdonly | O.directory)) };
}

/** Every byte that a name may hold, twice around: no text in any encoding. */
const LONGEST = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1).filter((byte) => byte !== 0x2f)).subarray(0, 254);
const NAMES = [Buffer.from([0xff]), Buffer.from([0xc3, 0x28, 0x0a]), Buffer.from("é"), Buffer.concat([LONGEST, Buffer.from("x")])];

test("openPath and openAt create and open names of any bytes up to 255, and no others", (t) => {
	const { folder, directory, keep } = fixture(t);
	for (const name of NAMES) {
		const made = keep(openAt(directory, name, O.creat | O.excl | O.rdwr, 0o640));
		assert.equal(openAt(directory, name, O.creat | O.excl | O.rdwr, 0o640), -ERRNO.EEXIST);
		const again = keep(openPath(Buffer.concat([Buffer.from(`${folder.path}/`), name]), O.rdonly));
		const stat = new Stat();
		const other = new Stat();
		assert.equal(fstat(made, stat), 0);
		assert.equal(fstat(again, other), 0);
		assert.ok(stat.sameInode(other));
	}
	assert.equal(openAt(directory, Buffer.alloc(256, "n"), O.creat | O.rdwr, 0o600), -ERRNO.ENAMETOOLONG);
	// the longest path that fits the arena is already too long for the kernel
	assert.equal(openPath(Buffer.alloc(8191, "p"), O.rdonly), -ERRNO.ENAMETOOLONG);
});

test("openPath and openAt answer with the negated error number of open(2)", (t) => {
	const { folder, directory } = fixture(t);
	folder.file("file", "");
	symlinkSync("file", join(folder.path, "link"));
	assert.equal(openPath(join(folder.path, "nothing"), O.rdonly), -ERRNO.ENOENT);
	assert.equal(openAt(directory, "nothing", O.rdonly), -ERRNO.ENOENT);
	assert.equal(openAt(directory, "file", O.rdonly | O.directory), -ERRNO.ENOTDIR);
	assert.equal(openAt(directory, "link", O.rdonly | O.nofollow), -ERRNO.ELOOP);
	assert.equal(openAt(directory, ".", O.wronly), -ERRNO.EISDIR);
	assert.equal(openAt(-1, "file", O.rdonly), -ERRNO.EBADF);
});

test("what is opened is never inherited by a program that is started", (t) => {
	const { folder, directory, keep } = fixture(t);
	folder.file("file", "");
	const fds = [
		keep(openPath(join(folder.path, "file"), O.rdonly)),
		keep(openAt(directory, "file", O.rdonly)),
		keep(openBeneath(directory, "file", O.path, RESOLVE.beneath)),
	];
	for (const fd of fds) {
		const flags = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "";
		assert.notEqual(Number.parseInt(flags, 8) & O.cloexec, 0);
	}
});

test("a closed descriptor is closed, and its number is free again", (t) => {
	const { directory, keep } = fixture(t);
	const fd = openAt(directory, ".", O.path);
	close(fd);
	assert.equal(fstat(fd, new Stat()), -ERRNO.EBADF);
	assert.equal(keep(openAt(directory, ".", O.path)), fd);
});

test("descriptorPath leads to the very inode, also of an O_PATH descriptor whose name has gone elsewhere", (t) => {
	const { folder, directory, keep } = fixture(t);
	folder.file("file", "content");
	const fd = keep(openAt(directory, "file", O.path));
	writeFileSync(join(folder.path, "other"), "else");
	assert.equal(readFileSync(descriptorPath(fd), "utf8"), "content");
});

test("openBeneath does not leave the directory by .., an absolute path, or a link that leads out", (t) => {
	const { folder, directory, keep } = fixture(t);
	folder.folder("inside");
	folder.file("inside/file", "");
	symlinkSync("/etc", join(folder.path, "inside/absolute"));
	symlinkSync("../..", join(folder.path, "inside/up"));
	symlinkSync("file", join(folder.path, "inside/beside"));
	const inside = keep(openAt(directory, "inside", O.path | O.directory));
	for (const name of ["..", "../inside", "/etc", "absolute/passwd", "up/inside", "../../../../etc"]) {
		assert.equal(openBeneath(inside, name, O.path, RESOLVE.beneath), -ERRNO.EXDEV, name);
	}
	keep(openBeneath(inside, "beside", O.rdonly, RESOLVE.beneath));
	keep(openBeneath(inside, ".", O.path, RESOLVE.beneath));
});

test("openBeneath with noSymlinks follows no link, but opens the link itself", (t) => {
	const { folder, directory, keep } = fixture(t);
	folder.file("file", "");
	symlinkSync("file", join(folder.path, "link"));
	const resolve = RESOLVE.beneath | RESOLVE.noSymlinks;
	assert.equal(openBeneath(directory, "link", O.rdonly, resolve), -ERRNO.ELOOP);
	const stat = new Stat();
	assert.equal(fstat(keep(openBeneath(directory, "link", O.path | O.nofollow, resolve)), stat), 0);
	assert.equal(stat.type, 10);
});

test("openBeneath with noXdev does not enter what is mounted inside", { skip: needs("root") }, (t) => {
	const { folder, directory, keep } = fixture(t);
	folder.mount("tmpfs", "mounted", 1);
	assert.equal(openBeneath(directory, "mounted", O.path, RESOLVE.beneath | RESOLVE.noXdev), -ERRNO.EXDEV);
	keep(openBeneath(directory, "mounted", O.path, RESOLVE.beneath));
});

test("openBeneath takes names of any bytes and answers with negated error numbers", (t) => {
	const { directory, keep } = fixture(t);
	for (const name of NAMES) {
		assert.equal(openBeneath(directory, name, O.rdonly, RESOLVE.beneath), -ERRNO.ENOENT);
		keep(openAt(directory, name, O.creat | O.wronly, 0o600));
		keep(openBeneath(directory, name, O.rdonly, RESOLVE.beneath));
	}
	assert.equal(openBeneath(directory, Buffer.alloc(256, "n"), O.rdonly, RESOLVE.beneath), -ERRNO.ENAMETOOLONG);
	assert.equal(openBeneath(directory, "x", O.rdonly, 1 << 20), -ERRNO.EINVAL);
	assert.equal(openBeneath(-1, "x", O.rdonly, RESOLVE.beneath), -ERRNO.EBADF);
});

test("duplicate gives another descriptor of the same open file, which outlives the first and is not inherited", (t) => {
	const { folder, keep } = fixture(t);
	const first = openPath(folder.file("f", "0123456789"), O.rdonly);
	const second = keep(duplicate(first));
	assert.notEqual(second, first);
	const text = () => readFileSync(second, "latin1");
	close(first);
	assert.match(readFileSync(`/proc/self/fdinfo/${second}`, "latin1"), /^flags:\s*0?2[0-7]{6}$/m);
	assert.equal(text(), "0123456789");
	// one offset for both
	assert.equal(text(), "");
	assert.equal(duplicate(999_999), -ERRNO.EBADF);
});

test("no open waits for the other end of a fifo, and no device is opened", { skip: needs("root") }, (t) => {
	const { folder, directory } = fixture(t);
	assert.equal(makeNode(directory, "fifo", 0o010600, 0, 0), 0);
	// null
	assert.equal(makeNode(directory, "device", 0o020600, 1, 3), 0);
	symlinkSync("fifo", join(folder.path, "link"));
	for (const name of ["fifo", "device"]) {
		for (const flags of [O.rdonly, O.wronly, O.rdwr, O.rdonly | O.nofollow, O.rdwr | O.creat]) {
			assert.equal(openAt(directory, name, flags, 0o600), -ERRNO.ENXIO, `${name} ${flags}`);
			assert.equal(openPath(join(folder.path, name), flags, 0o600), -ERRNO.ENXIO, `${name} ${flags}`);
		}
		assert.equal(openBeneath(directory, name, O.rdonly, RESOLVE.beneath), -ERRNO.ENXIO);
		assert.throws(() => readFileNamed(join(folder.path, name)), { code: "ENXIO" });
	}
	assert.equal(openPath(join(folder.path, "link"), O.rdonly), -ERRNO.ENXIO);
	assert.equal(openAt(directory, "link", O.rdonly | O.nofollow), -ERRNO.ELOOP);
	assert.equal(openAt(directory, "fifo", O.rdonly | O.directory), -ERRNO.ENOTDIR);
	const handle = handleAt(directory, "fifo");
	if (typeof handle === "number") return;
	// nobody ever opens the other end
	const fd = openByHandle(directory, handle, O.rdonly);
	assert.ok(fd >= 0);
	close(fd);
});

test("an open never waits while a fifo and a file change places under its name", async (t) => {
	const { folder, directory } = fixture(t);
	assert.equal(makeNode(directory, "fifo", 0o010600, 0, 0), 0);
	folder.file("file", "content");
	const swapper = new Worker(
		`const { parentPort, workerData } = require("node:worker_threads");
		import(workerData.names).then(({ renameName, RENAME }) => {
			parentPort.postMessage("ready");
			for (let i = 0; Atomics.load(workerData.ends, 0) === 0; i++) renameName(workerData.directory, "fifo", workerData.directory, "file", RENAME.exchange);
			parentPort.postMessage("done");
		});`,
		{
			eval: true,
			workerData: { names: new URL("./names.js", import.meta.url).href, directory, ends: new Int32Array(new SharedArrayBuffer(4)) },
		},
	);
	t.after(() => swapper.terminate());
	await once(swapper, "message");
	const seen = new Set<number>();
	for (let i = 0; i < 20_000; i++) {
		const fd = openAt(directory, "file", O.rdonly | O.nofollow);
		seen.add(Math.min(fd, 0));
		if (fd < 0) continue;
		assert.equal(readFileSync(fd, "utf8"), "content");
		close(fd);
	}
	assert.ok(
		[...seen].every((status) => status === 0 || status === -ERRNO.ENXIO || status === -ERRNO.ENOENT),
		[...seen].join(),
	);
});

test("a file on which somebody holds a lease is not waited for", { skip: needs("root") || missing("perl") }, async (t) => {
	const { folder, directory, keep } = fixture(t);
	const path = folder.file("file", "content");
	// F_SETLEASE, F_WRLCK
	const script =
		'open(my $f, "+<", $ARGV[0]) or die; $SIG{IO} = "IGNORE"; fcntl($f, 1024, 1) or die "no lease"; $| = 1; print "held\\n"; sleep 1000;';
	const holder = spawn("perl", ["-e", script, path], { stdio: ["ignore", "pipe", "ignore"] });
	folder.beforeRemoval(() => holder.kill("SIGKILL"));
	const [told] = await Promise.race([once(holder.stdout, "data"), once(holder, "exit")]);
	if (!String(told).startsWith("held")) return t.skip("this file system has no leases");
	assert.equal(openAt(directory, "file", O.rdonly), -ERRNO.EAGAIN);
	keep(openAt(directory, "file", O.path));
});
