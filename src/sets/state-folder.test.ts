// Sets on disk: making, holding, listing and removing them.

import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { volume } from "../../test/support/requirements.ts";
import { LayerError } from "../layer/layer-error.ts";
import { makeDirectory } from "../linux/names.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { bytesBelow } from "./set-size.ts";
import { type ChangeSet, finishRemovals, holdSet, isInService, noteServed, readSets, StateFolder } from "./state-folder.ts";
import { identityOf, isSameTree } from "./tree-identity.ts";

function place(t: TestContext) {
	const base = mkdtempSync(join(tmpdir(), "holdfast-sets-"));
	t.after(() => rmSync(base, { recursive: true, force: true }));
	const tree = join(base, "golden");
	mkdirSync(tree);
	writeFileSync(join(tree, "file"), "");
	const root = join(base, "state");
	const inside = <T>(act: (state: StateFolder) => T): T => {
		const state = StateFolder.open(root);
		try {
			return act(state);
		} finally {
			state.close();
		}
	};
	return { base, root, tree, identity: identityOf(tree), inside, changes: join(root, "changes") };
}

function names(sets: readonly ChangeSet[]): string[] {
	return sets.map(({ name }) => name);
}

test("sets are listed by their names; what is no set is none, and its name is taken", (t) => {
	const { root, identity, inside, changes } = place(t);
	inside((state) => state.make(identity, null, false));
	mkdirSync(join(changes, "golden-2"));
	writeFileSync(join(changes, "a-file"), "");
	assert.equal(inside((state) => state.make(identity, null, false)).name, "golden-3");
	assert.throws(() => inside((state) => state.make(identity, "golden-2", false)), LayerError);
	assert.deepEqual(names(readSets(root)), ["golden", "golden-3"]);
	assert.deepEqual(
		readSets(root).map(({ record }) => record && isSameTree(record.tree, identity)),
		[true, true],
	);
});

test("a set that is held is in service, and is not removed", (t) => {
	const { identity, inside, root } = place(t);
	const set = inside((state) => state.make(identity, null, true));
	const hold = holdSet(set);
	assert.ok(isInService(set));
	assert.throws(() => inside((state) => state.putAside(set)), /in service/);
	inside((state) => state.sweep());
	assert.deepEqual(names(readSets(root)), ["golden-ephemeral"]);
	hold.close();
	assert.ok(!isInService(set));
	inside((state) => state.sweep());
	assert.deepEqual(readSets(root), []);
});

test("a removal that is interrupted leaves no set, and is finished later: names of any bytes, and a path of any depth", (t) => {
	const { identity, inside, root, changes } = place(t);
	const set = inside((state) => state.make(identity, null, false));
	mkdirSync(set.upper);
	writeFileSync(Buffer.concat([Buffer.from(`${set.upper}/`), Buffer.from([0xff, 0xfe, 10])]), "x".repeat(5000));
	let at = openPath(set.upper, O.path | O.directory);
	for (let depth = 0; depth < volume(3000, 12_000); depth++) {
		assert.equal(makeDirectory(at, "d", 0o700), 0);
		const below = openAt(at, "d", O.path | O.directory);
		close(at);
		at = below;
	}
	close(at);
	assert.ok((bytesBelow(set.folder) ?? 0) >= 8192);
	inside((state) => state.putAside(set));
	assert.deepEqual(readSets(root), []);
	assert.equal(readdirSync(changes).length, 2, "the lock, and what was put aside");
	finishRemovals(root);
	assert.deepEqual(readdirSync(changes), [".lock"]);
});

test("a set of an earlier version is removed where it lies, with its name", (t) => {
	const { base, identity, inside, root, changes } = place(t);
	const set = inside((state) => state.make(identity, null, false));
	mkdirSync(set.upper);
	const former = join(base, "former/changes/0123456789abcdef01234567");
	mkdirSync(join(former, ".."), { recursive: true });
	renameSync(set.folder, former);
	inside((state) => state.takeOver([join(base, "former")], null));
	inside((state) => state.takeOver([join(base, "former")], null));
	const [named, ...others] = readSets(root);
	assert.deepEqual([named?.name, named?.folder, others], ["golden", former, []]);
	inside((state) => state.putAside(named as ChangeSet));
	assert.ok(!existsSync(former));
	assert.equal(readdirSync(join(former, "..")).length, 1);
	finishRemovals(root);
	assert.deepEqual([readdirSync(join(former, "..")), readdirSync(changes)], [[], [".lock"]]);
});

test("a set whose folder is not there is listed, with what is wrong", (t) => {
	const { inside, root, changes } = place(t);
	inside(() => symlinkSync("/nowhere/changes/x", join(changes, "lost")));
	const [lost] = readSets(root);
	assert.equal(lost?.name, "lost");
	assert.match(lost?.damage ?? "", /\/nowhere\/changes\/x is not there/);
	inside((state) => state.putAside(lost as ChangeSet));
	assert.deepEqual(readSets(root), []);
});

test("a folder of changes that others may write to is refused, and left as it is", (t) => {
	const { root, inside, changes } = place(t);
	inside(() => {});
	chmodSync(changes, 0o777);
	assert.throws(() => StateFolder.open(root), /other users may write to it/);
	chmodSync(changes, 0o700);
	chmodSync(root, 0o777);
	inside(() => {});
});

test("what is noted of a set when it is served is read again", (t) => {
	const { base, tree, identity, inside, root } = place(t);
	const set = inside((state) => state.make(identity, "named", false));
	assert.deepEqual([set.record?.served, set.record?.isDefault], [null, false]);
	renameSync(tree, join(base, "moved"));
	noteServed(set, identityOf(join(base, "moved")));
	const [found] = readSets(root);
	assert.equal(found?.treePath, join(base, "moved"));
	assert.ok(Date.parse(found?.record?.served ?? "") >= Date.parse(set.record?.made ?? ""));
	assert.equal(found?.record?.isDefault, false);
});
