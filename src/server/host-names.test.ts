// Names of users and groups, from files like /etc/passwd.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Owners } from "../nfs4/owners.ts";
import { Status } from "../nfs4/status.ts";
import { xdr } from "../rpc/rpc-client.test-support.ts";
import { XdrReader } from "../xdr/xdr-reader.ts";
import { HostNames } from "./host-names.ts";

test("names come from the files, as they are a second later, and numbers stand for what has no name", (t) => {
	const folder = mkdtempSync(join(tmpdir(), "holdfast-names-"));
	t.after(() => rmSync(folder, { recursive: true }));
	const files = { user: join(folder, "passwd"), group: join(folder, "group") };
	let now = 0;
	const names = new HostNames(files, () => now);
	assert.equal(names.idOf("user", "root"), null, "there is no file");
	now += 1000;
	writeFileSync(files.user, "root:x:0:0::/:/bin/sh\n# no line\nann:x:1000:1000::/:\ntwin:x:1000:1::/:\nodd:x:-1:1\n:x:5:5\n");
	writeFileSync(files.group, "wheel:x:0:\n");
	const owners = new Owners("Example.org", names);
	const text = (kind: "user" | "group", id: number): string => owners.text(kind, id).toString();
	assert.deepEqual([text("user", 0), text("user", 1000), text("user", 5)], ["root@Example.org", "ann@Example.org", "5"]);
	assert.deepEqual([text("group", 0), text("group", 1000)], ["wheel@Example.org", "1000"]);
	const read = (kind: "user" | "group", name: string): number | string => {
		try {
			return owners.read(kind, XdrReader.over(xdr(name)));
		} catch (error) {
			return (error as { status: number }).status === Status.badowner ? "badowner" : "something else";
		}
	};
	assert.deepEqual([read("user", "twin@example.ORG"), read("user", "12"), read("group", "wheel@example.org")], [1000, 12, 0]);
	for (const name of ["ann", "ann@", "@example.org", "ann@example.com", "odd@example.org", "wheel@example.org"]) {
		assert.equal(read("user", name), "badowner", name);
	}
	writeFileSync(files.user, "new:x:7:7::/:\n");
	assert.equal(read("user", "new@example.org"), "badowner");
	now += 1000;
	assert.equal(read("user", "new@example.org"), 7);
	assert.equal(read("user", "ann@example.org"), "badowner");
});
