// Attributes as statx(2) tells them, against Node's.

import assert from "node:assert/strict";
import { fstatSync, linkSync, lstatSync, mkdirSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { needs } from "../../test/support/requirements.ts";
import { scratch } from "../../test/support/scratch.ts";
import { ERRNO } from "./errno.ts";
import { close, O, openAt, openPath } from "./open.ts";
import { birthTime, fstat, mountId, Stat, statAt } from "./stat.ts";

function fixture(context: TestContext) {
	const folder = scratch(context);
	const keep = (fd: number) => {
		assert.ok(fd >= 0, `errno ${-fd}`);
		folder.beforeRemoval(() => close(fd));
		return fd;
	};
	return { folder, keep, directory: keep(openPath(folder.path, O.rdonly | O.directory)) };
}

/** What Node says of a name, in the fields of Stat. */
function byNode(path: string) {
	const stat = lstatSync(path, { bigint: true });
	const half = (value: bigint) => [Number(value >> 32n), Number(value & 0xffffffffn)];
	return {
		mode: Number(stat.mode),
		nlink: Number(stat.nlink),
		owner: [Number(stat.uid), Number(stat.gid)],
		ino: half(stat.ino),
		size: half(stat.size),
		blocks: Number(stat.blocks),
		times: [stat.atimeNs, stat.mtimeNs, stat.ctimeNs],
	};
}

function byUs(stat: Stat) {
	const time = (sec: number, nsec: number) => BigInt(sec) * 1_000_000_000n + BigInt(nsec);
	return {
		mode: stat.mode,
		nlink: stat.nlink,
		owner: [stat.uid, stat.gid],
		ino: [stat.inoHi, stat.inoLo],
		size: [stat.sizeHi, stat.sizeLo],
		blocks: stat.blocks,
		times: [time(stat.atimeSec, stat.atimeNsec), time(stat.mtimeSec, stat.mtimeNsec), time(stat.ctimeSec, stat.ctimeNsec)],
	};
}

test("fstat and statAt say what Node says, of files, directories, links and what is sparse beyond 4 GiB", (t) => {
	const { folder, directory, keep } = fixture(t);
	const at = (name: string) => join(folder.path, name);
	writeFileSync(at("file"), "some bytes", { mode: 0o640 });
	linkSync(at("file"), at("second"));
	mkdirSync(at("directory"));
	symlinkSync("file", at("link"));
	symlinkSync("nowhere", at("broken"));
	writeFileSync(at("sparse"), "x");
	truncateSync(at("sparse"), 3 * 2 ** 40 + 5);
	// Node takes negative numbers for now, but not negative dates
	utimesSync(at("file"), new Date(-1_000_250), new Date(-86_400_000 * 365 * 20));
	const stat = new Stat();
	for (const name of ["file", "second", "directory", "link", "broken", "sparse"]) {
		assert.equal(statAt(directory, name, stat), 0);
		assert.deepEqual(byUs(stat), byNode(at(name)), name);
		const named = new Stat();
		assert.equal(fstat(keep(openAt(directory, name, O.path | O.nofollow)), named), 0);
		assert.deepEqual(named, stat, name);
	}
	statAt(directory, "file", stat);
	assert.deepEqual([stat.atimeSec, stat.atimeNsec, stat.mtimeSec], [-1001, 750_000_000, -86400 * 365 * 20]);
	statAt(directory, "sparse", stat);
	assert.equal(stat.size, 3 * 2 ** 40 + 5);
	assert.deepEqual([stat.sizeHi, stat.sizeLo], [768, 5]);
});

test("statAt does not follow a link, not even one that is broken", (t) => {
	const { folder, directory } = fixture(t);
	symlinkSync("nowhere", join(folder.path, "link"));
	const stat = new Stat();
	assert.equal(statAt(directory, "link", stat), 0);
	assert.equal(stat.type, 10);
});

test("statAt takes names of any bytes, and both calls answer with negated error numbers", (t) => {
	const { directory } = fixture(t);
	const stat = new Stat();
	const name = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.alloc(253, 0x80)]);
	assert.equal(statAt(directory, name, stat), -ERRNO.ENOENT);
	close(openAt(directory, name, O.creat | O.wronly, 0o600));
	assert.equal(statAt(directory, name, stat), 0);
	assert.equal(statAt(directory, Buffer.alloc(256, "n"), stat), -ERRNO.ENAMETOOLONG);
	assert.equal(statAt(-1, "name", stat), -ERRNO.EBADF);
	assert.equal(statAt(directory, "", stat), -ERRNO.ENOENT);
	assert.equal(fstat(-1, stat), -ERRNO.EBADF);
});

test("a failed call leaves the Stat as it was", (t) => {
	const { directory } = fixture(t);
	const stat = new Stat();
	fstat(directory, stat);
	const before = { ...stat };
	assert.ok(statAt(directory, "nothing", stat) < 0);
	assert.deepEqual({ ...stat }, before);
});

test("sameInode tells inodes apart by number and device", { skip: needs("root") }, (t) => {
	const { folder, directory, keep } = fixture(t);
	writeFileSync(join(folder.path, "a"), "");
	linkSync(join(folder.path, "a"), join(folder.path, "b"));
	writeFileSync(join(folder.path, "c"), "");
	const [a, b, c] = ["a", "b", "c"].map((name) => {
		const stat = new Stat();
		statAt(directory, name, stat);
		return stat;
	});
	assert.ok(a.sameInode(b));
	assert.ok(!a.sameInode(c));
	const [one, two] = ["one", "two"].map((name) => {
		const stat = new Stat();
		fstat(keep(openPath(folder.mount("tmpfs", name, 1), O.path)), stat);
		return stat;
	});
	// two new file systems of a kind give their roots the same number
	assert.deepEqual([one.inoHi, one.inoLo], [two.inoHi, two.inoLo]);
	assert.ok(!one.sameInode(two));
});

test("the device of an inode is what Node tells", (t) => {
	const { directory } = fixture(t);
	const stat = new Stat();
	fstat(directory, stat);
	const { dev } = fstatSync(directory, { bigint: true });
	assert.equal(BigInt(stat.devMajor), ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n));
	assert.equal(BigInt(stat.devMinor), (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n));
});

test("mountId is equal within a mount, and another behind a mount point", { skip: needs("root") }, (t) => {
	const { folder, directory, keep } = fixture(t);
	folder.folder("inside");
	const inside = keep(openAt(directory, "inside", O.path));
	const mounted = keep(openPath(folder.mount("tmpfs", "mounted", 1), O.rdonly));
	assert.ok(mountId(directory) > 0);
	assert.equal(mountId(inside), mountId(directory));
	assert.notEqual(mountId(mounted), mountId(directory));
	assert.equal(mountId(-1), -ERRNO.EBADF);
});

test("birthTime() tells when a file was made, whatever becomes of it, and nothing of what is no descriptor", (context) => {
	const { folder, keep } = fixture(context);
	const path = join(folder.path, "file");
	writeFileSync(path, "");
	utimesSync(path, 1, 2);
	const fd = keep(openPath(path, O.path));
	const { birthtimeNs } = lstatSync(path, { bigint: true });
	const told = birthTime(fd);
	assert.equal(told === null ? null : BigInt(told.sec) * 1_000_000_000n + BigInt(told.nsec), birthtimeNs);
	assert.equal(birthTime(-1), null);
});
