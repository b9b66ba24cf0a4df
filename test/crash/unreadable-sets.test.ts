/** Sets on a disk that cannot be read: none of them is taken for none. */

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { LayerError } from "../../src/layer/layer-error.ts";
import { findByTree } from "../../src/sets/find-set.ts";
import { readSets, StateFolder, undoMaking } from "../../src/sets/state-folder.ts";
import { identityOf } from "../../src/sets/tree-identity.ts";
import { describeFailure } from "../../src/vfs/system-errors.ts";
import { scratch } from "../support/scratch.ts";
import { arm, disarm } from "./fault-injection.ts";
import { ERRORS } from "./fault-order.ts";

for (const error of ["EIO", "EMFILE"] as const) {
	for (const kind of ["with a record", "of an earlier version"] as const) {
		test(`the set of a tree is found or refused with a sentence whatever look at it fails with ${error}: ${kind}`, (t) => {
			const made = scratch(t);
			const tree = identityOf(made.folder("tree"));
			const state = StateFolder.open(join(made.path, "state"));
			const set = state.make(tree, null, false);
			state.close();
			mkdirSync(set.upper);
			const sets = () => readSets(set.root).map((one) => (kind === "with a record" ? one : { ...one, record: null }));
			assert.equal(findByTree(sets(), tree).kind, "found");
			let places = 0;
			for (let at = 1; ; at++) {
				arm({ at, error: ERRORS[error][0], isFrom: false });
				let found = "";
				let thrown: unknown = null;
				try {
					found = findByTree(sets(), tree).kind;
					undoMaking(set);
				} catch (failure) {
					thrown = failure;
				}
				const { hits, name } = disarm();
				if (thrown === null) assert.notEqual(found, "none", `call ${at} (${name})`);
				else
					assert.ok(thrown instanceof LayerError || describeFailure(thrown) !== null, `call ${at} (${name}): ${(thrown as Error).stack}`);
				assert.equal(findByTree(sets(), tree).kind, "found", `after call ${at} (${name})`);
				if (hits === 0) break;
				places++;
			}
			assert.ok(places > 0, `${places} places`);
		});
	}
}
