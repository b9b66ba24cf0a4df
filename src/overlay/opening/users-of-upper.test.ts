// Which paths are looked at, to find out who else uses an upper.

import assert from "node:assert/strict";
import { test } from "node:test";
import { mayLieOn } from "./users-of-upper.ts";

const TABLE = `22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:30 / /mnt rw - nfs4 127.0.0.1:/ rw
31 22 0:31 / /mnt/not rw - tmpfs none rw
32 22 0:32 / /data rw - btrfs /dev/vdb rw
33 32 0:33 / /data/over rw - fuse.sshfs host: rw
34 33 254:1 / /data/over/disk rw - ext4 /dev/vdc rw`;

test("what lies on another file system that is remote is not looked at", () => {
	const mayLie = (path: string) => mayLieOn(TABLE, path, "254:0");
	assert.ok(mayLie("/srv/upper"));
	assert.ok(!mayLie("/mnt/u"), "the server of this mount may be this very process");
	assert.ok(!mayLie("/mnt"));
	assert.ok(mayLie("/mntother/u"));
	assert.ok(mayLie("/mnt/not/u"));
	assert.ok(mayLie("/data/subvolume/upper"), "a subvolume has a device of its own");
	assert.ok(!mayLie("/data/over/upper"));
	assert.ok(mayLie("/data/over/disk/upper"));
	assert.ok(mayLieOn(TABLE, "/mnt/u", "0:30"), "the upper lies there itself");
});

test("of two mounts at one place the later one counts", () => {
	assert.ok(!mayLieOn(`${TABLE}\n40 22 0:40 / /srv rw - nfs host:/ rw`, "/srv/upper", "254:0"));
	assert.ok(mayLieOn(`${TABLE}\n41 30 0:41 / /mnt rw - tmpfs none rw`, "/mnt/u", "254:0"));
});
