// The mount commands that a server prints.

import assert from "node:assert/strict";
import { test } from "node:test";
import { mountLines } from "./mount-lines.ts";

const V4 = /^sudo mount -t nfs -o vers=4\.1,proto=tcp,port=20490,nosuid,nodev '?127\.0\.0\.1:\/a'? \/mnt$/;
const V3 =
	/^sudo mount -t nfs -o vers=3,proto=tcp,port=20490,mountport=20490,mountproto=tcp,nolock,nosuid,nodev '?127\.0\.0\.1:\/a'? \/mnt$/;
const MAC = /^sudo mount_nfs -o vers=3,/;

function commands(...versions: number[]): string[] {
	return mountLines([{ host: "127.0.0.1", port: 20490 }], "/a", versions).filter((line) => /^sudo mount/.test(line));
}

test("the mount commands are of the versions that are served", () => {
	const expected: [number[], RegExp[]][] = [
		[[3], [V3, MAC]],
		[[4], [V4]],
		[
			[3, 4],
			[V4, V3, MAC],
		],
	];
	for (const [versions, patterns] of expected) {
		const lines = commands(...versions);
		assert.equal(lines.length, patterns.length, lines.join("\n"));
		for (const [index, pattern] of patterns.entries()) assert.match(lines[index] as string, pattern);
	}
});

test("there are none for a Unix socket, and IPv6 has brackets", () => {
	assert.deepEqual(mountLines([{ path: "/run/socket" }], "/", [3, 4]), []);
	assert.match(mountLines([{ host: "::1", port: 1 }], "/", [4]).join("\n"), /vers=4\.1,proto=tcp6,port=1.*\[::1\]:\//);
});
