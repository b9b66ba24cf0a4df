// Where a user's state is, by what an environment says and by what the password database does.

import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type Environment, type StateRoots, SYSTEM_ROOT, stateRoots } from "./state-roots.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";
const USER = 65534;

/** Folders of root's and of the user nobody, and the answers that this user gets. */
function place(t: TestContext) {
	const base = mkdtempSync(join(tmpdir(), "holdfast-roots-"));
	t.after(() => rmSync(base, { recursive: true }));
	chmodSync(base, 0o755);
	const [ofRoot, ofUser] = [join(base, "root"), join(base, "user")];
	for (const path of [ofRoot, ofUser]) mkdirSync(path);
	chownSync(ofUser, USER, USER);
	const asUser = (environment: Environment, asked?: string): StateRoots => {
		process.seteuid?.(USER);
		try {
			return stateRoots(asked, environment);
		} finally {
			process.seteuid?.(0);
		}
	};
	return { ofRoot, ofUser, asUser };
}

const below = (home: string) => join(home, ".local/state/holdfast");

test("root's is /var/lib/holdfast, and what its environment names is where an earlier version may have been", { skip }, (t) => {
	const { ofRoot, ofUser } = place(t);
	const home = below(userInfo().homedir);
	for (const [environment, former] of [
		[{}, [home]],
		[{ HOME: ofUser, XDG_STATE_HOME: ofUser }, [home]],
		[{ HOME: ofRoot }, [below(ofRoot), home]],
		[{ XDG_STATE_HOME: ofRoot, HOME: "relative" }, [join(ofRoot, "holdfast"), home]],
	] as [Environment, string[]][]) {
		const { own, others } = stateRoots(undefined, environment);
		assert.deepEqual([own, others], [SYSTEM_ROOT, former], JSON.stringify(environment));
	}
	assert.deepEqual(
		stateRoots(undefined, { SUDO_UID: `${USER}` }).ofUsers.map(({ user }) => user),
		["nobody"],
	);
	for (const SUDO_UID of ["0", "", "x", "-1", "4294967290"]) assert.deepEqual(stateRoots(undefined, { SUDO_UID }).ofUsers, [], SUDO_UID);
});

test("an ordinary user's is below HOME, unless that is another's or is not there", { skip }, (t) => {
	const { ofRoot, ofUser, asUser } = place(t);
	assert.equal(asUser({ HOME: ofUser }).own, below(ofUser));
	assert.equal(asUser({ HOME: ofUser, XDG_STATE_HOME: join(ofUser, "not yet") }).own, join(ofUser, "not yet/holdfast"));
	assert.deepEqual(asUser({ HOME: ofUser, XDG_STATE_HOME: join(ofUser, "x") }).others[0], below(ofUser));
	const byPassword = asUser({}).own;
	for (const HOME of [ofRoot, "/nowhere/at/all", "relative", ""]) assert.equal(asUser({ HOME }).own, byPassword, HOME);
	assert.equal(asUser({ HOME: ofUser, XDG_STATE_HOME: ofRoot }).own, below(ofUser));
});

test("--state-dir is the only place", { skip }, (t) => {
	const { ofUser, asUser } = place(t);
	assert.deepEqual(asUser({ HOME: ofUser, SUDO_UID: "0" }, "/srv/state"), { own: "/srv/state", others: [], ofUsers: [] });
	assert.deepEqual(stateRoots("/srv/state", { HOME: ofUser }), { own: "/srv/state", others: [], ofUsers: [] });
});
