// The ways to mount: as root, as an ordinary user by fusermount3, and in a user namespace; and what is said of each that does not go.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { asFuseUser } from "../../test/support/fuse-user.ts";
import { needs } from "../../test/support/requirements.ts";
import { type Scratch, scratch } from "../../test/support/scratch.ts";
import { NOBODY, ordinaryPath } from "../../test/support/server-process.ts";
import type { MountRequest } from "./mount-request.ts";
import type { Way } from "./ways.ts";

const skip = needs("root", "fuse", "setpriv", "unshare");
const REQUEST = { source: "/a,b\\c d", isReadOnly: false, allowsOther: false, isNodev: true, isNosuid: true };

interface Outcome {
	/** As `ways.ts` says it; null: it was mounted. */
	readonly refused: string | null;
	/** The line of the mount table, behind what is of this machine. */
	readonly line?: string;
	/** What unmounting it twice has said. */
	readonly unmounted?: readonly ({ readonly isBusy: boolean; readonly reason: string } | null)[];
}

/** Mounts in a process of its own, as root or as an ordinary user, and unmounts again. */
function mountIn(made: Scratch, way: Way, given: Partial<MountRequest> & { device?: string; user?: boolean } = {}): Outcome {
	const point = made.folder("a point");
	for (const folder of [made.path, point]) chmodSync(folder, 0o777);
	const { device, user = false, ...options } = given;
	const request: MountRequest = { ...REQUEST, point, ...options };
	const module = user ? ordinaryPath(made, "dist/src/mounting/ways.js") : join(import.meta.dirname, "ways.js");
	const program = `
		import { readFileSync } from "node:fs";
		const { mountAnyhow, unmountAnyhow } = await import(${JSON.stringify(module)});
		const say = (outcome) => console.log(JSON.stringify(outcome));
		try {
			const mounted = await mountAnyhow(${JSON.stringify(request)}, [${JSON.stringify(way)}]);
			const table = readFileSync("/proc/" + (mounted.namespace ?? "self") + "/mountinfo", "utf8").split("\\n");
			const line = table.find((one) => one.includes("fuse.holdfast"))?.replace(/^\\S+ \\S+ \\S+ /, "");
			const unmounted = [];
			if (mounted.namespace === null) for (let i = 0; i < 2; i++) unmounted.push(await unmountAnyhow(${JSON.stringify(point)}, i > 0));
			mounted.release();
			say({ refused: null, line, unmounted });
		} catch (error) {
			say({ refused: error.message });
		}`;
	const command = [process.execPath, "--input-type=module", "-e", program];
	const [file, ...words] = user ? asFuseUser(made, command, { device }) : command;
	const ran = spawnSync(file as string, words, { encoding: "utf8", cwd: "/" });
	assert.equal(ran.status, 0, ran.stderr);
	return JSON.parse(ran.stdout) as Outcome;
}

/** How mountinfo writes source and point. */
const SOURCE = "/a,b\\134c\\040d";

function assertMounted({ refused, line, unmounted }: Outcome, made: Scratch, uid: number): void {
	assert.equal(refused, null);
	const [before, behind] = (line ?? "").split(" - ");
	assert.match(before ?? "", new RegExp(`^/ ${made.path}/a\\\\040point rw,nosuid,nodev`));
	assert.equal(behind, `fuse.holdfast ${SOURCE} rw,user_id=${uid},group_id=${uid},default_permissions`);
	if ((unmounted ?? []).length === 0) return;
	assert.equal(unmounted?.[0], null);
	assert.equal(unmounted?.[1]?.isBusy, false);
}

test("root mounts by mount(2), and an odd name of the export stands in the mount table as it is", { skip }, (t) => {
	const made = scratch(t);
	assertMounted(mountIn(made, "mount"), made, 0);
});

test("an ordinary user mounts and unmounts by fusermount3", { skip: skip || needs("fusermount3") }, (t) => {
	const made = scratch(t);
	assertMounted(mountIn(made, "fusermount3", { user: true }), made, NOBODY);
});

test("an ordinary user mounts in a user namespace, and gets the descriptor out of it", { skip }, (t) => {
	const made = scratch(t);
	assertMounted(mountIn(made, "namespace", { user: true }), made, NOBODY);
});

test("a mount has ro, allow_other, nodev and nosuid where they were asked for", { skip }, (t) => {
	const made = scratch(t);
	const plain = mountIn(made, "mount", { isNodev: false, isNosuid: false }).line ?? "";
	assert.match(plain, /^\S+ \S+ rw,relatime.* - fuse\.holdfast \S+ rw,user_id=0,group_id=0,default_permissions$/);
	const other = mountIn(made, "mount", { isReadOnly: true, allowsOther: true }).line ?? "";
	assert.match(other, /^\S+ \S+ ro,nosuid,nodev,.* - fuse\.holdfast \S+ ro,user_id=0,group_id=0,default_permissions,allow_other$/);
});

test("each way says why it does not go", { skip: skip || needs("fusermount3") }, (t) => {
	const made = scratch(t);
	const refused = (way: Way, given: Parameters<typeof mountIn>[2]) => mountIn(made, way, given).refused ?? "";
	const at = `Cannot mount at ${made.path}/a point, by `;
	assert.equal(refused("mount", { user: true }), `${at}mount(2): only root may.`);
	const closed = made.file("closed", "");
	writeFileSync(closed, "");
	chmodSync(closed, 0o600);
	const isClosed = "/dev/fuse is closed to this user \\(it has mode 0600\\): have root open it \\(chmod 0666 /dev/fuse\\)";
	assert.match(refused("namespace", { user: true, device: closed }), new RegExp(isClosed));
	assert.match(refused("fusermount3", { user: true, device: closed }), /by fusermount3: .*\/dev\/fuse/);
	assert.match(refused("mount", { point: join(made.path, "none") }), /by mount\(2\): .*ENOENT/);
	const path = process.env.PATH;
	process.env.PATH = made.folder("empty");
	t.after(() => {
		process.env.PATH = path;
	});
	assert.equal(mountIn(made, "fusermount3").refused, `${at}fusermount3: there is no program fusermount3.`);
	assert.equal(mountIn(made, "namespace").refused, `${at}a user namespace: there is no program unshare.`);
});
