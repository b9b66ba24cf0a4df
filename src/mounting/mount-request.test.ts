// Options of a mount: as they are typed, and as the kernel and fusermount3 take them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MS } from "../linux/mount.ts";
import { fusermountOptions, mountData, mountFlags, parseMountOptions } from "./mount-request.ts";

const NONE = { isReadOnly: false, allowsOther: false, isNodev: false, isNosuid: false };

test("options may stand in one -o or in several", () => {
	assert.deepEqual(parseMountOptions([]), NONE);
	assert.deepEqual(parseMountOptions(["ro,allow_other", "nodev", "nosuid"]), {
		isReadOnly: true,
		allowsOther: true,
		isNodev: true,
		isNosuid: true,
	});
});

test("an option that is unknown, empty or given twice is refused", () => {
	for (const value of ["", "ro,", "rw", "allow_root", "lowerdir=/a", "RO", "ro\\,nodev", "toString"]) {
		assert.throws(
			() => parseMountOptions([value]),
			/^Error: Options of a mount are ro, allow_other, nodev, nosuid, with commas between\.$/,
		);
	}
	assert.throws(() => parseMountOptions(["ro,ro"]), /ro of a mount is given twice/);
	assert.throws(() => parseMountOptions(["nodev", "ro,nodev"]), /nodev of a mount is given twice/);
});

test("the kernel checks permissions itself, whatever the options are", () => {
	assert.match(mountData(7, NONE), /^fd=7,rootmode=40000,user_id=\d+,group_id=\d+,default_permissions$/);
	assert.match(mountData(7, { ...NONE, allowsOther: true }), /,default_permissions,allow_other$/);
	assert.equal(mountFlags(NONE), 0);
	assert.equal(mountFlags({ isReadOnly: true, allowsOther: true, isNodev: true, isNosuid: true }), MS.rdonly | MS.nodev | MS.nosuid);
});

test("commas and backslashes in the name of an export are escaped for fusermount3, and colons are not", () => {
	const request = { ...NONE, point: "/p,o\\i:nt", source: "/a,b\\c:d" };
	assert.equal(fusermountOptions(request), "fsname=/a\\,b\\\\c:d,subtype=holdfast,default_permissions");
	const all = { ...request, source: "/", isReadOnly: true, allowsOther: true, isNodev: true, isNosuid: true };
	assert.equal(fusermountOptions(all), "fsname=/,subtype=holdfast,default_permissions,ro,allow_other,nodev,nosuid");
});
