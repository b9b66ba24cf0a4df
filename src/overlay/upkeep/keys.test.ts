// Keys made, dropped and made to sign.

import assert from "node:assert/strict";
import { test } from "node:test";
import { KEY_ID_MAX, newSecrets, type Registry } from "../work/registry.ts";
import { KeyError, listKeys, withNewestSigning, withNewKey, withoutKey } from "./keys.ts";

function sample(): Registry {
	return { ...newSecrets(), homes: [], spaces: [], lowers: [], upper: null };
}

function uses(registry: Registry): string[] {
	return listKeys(registry).map(({ id, use }) => `${id} ${use}`);
}

test("a new key waits, and the signing one stays", () => {
	const before = sample();
	const after = withNewKey(before);
	assert.deepEqual(uses(after), ["1 signs", "2 waits"]);
	assert.deepEqual(after.keys[0], before.keys[0]);
	assert.notEqual(after.keys[1].secret, before.keys[0].secret);
	assert.deepEqual({ ...after, keys: [] }, { ...before, keys: [] }, "nothing else is changed");
	assert.deepEqual(uses(before), ["1 signs"]);
});

test("to sign now takes the newest key that waits, and makes one if there is none", () => {
	assert.deepEqual(uses(withNewestSigning(withNewKey(withNewKey(sample())))), ["1 verifies", "2 verifies", "3 signs"]);
	assert.deepEqual(uses(withNewestSigning(sample())), ["1 verifies", "2 signs"]);
});

test("the key that signs is not dropped, and neither is one that is not there", () => {
	const registry = withNewestSigning(sample());
	assert.deepEqual(uses(withoutKey(registry, 1)), ["2 signs"]);
	assert.throws(() => withoutKey(registry, 2), KeyError);
	assert.throws(() => withoutKey(registry, 3), /no such key. There are 1, 2/);
});

test("no number that has signed is used again, in whatever order keys are made and dropped", () => {
	const signed = new Set([1]);
	let registry = sample();
	for (let i = 0; i < 400; i++) {
		const waiting = registry.keys.filter(({ id }) => id > registry.signingKey);
		if (i % 7 === 3) registry = withNewKey(registry);
		else if (i % 7 === 5 && waiting.length > 0) registry = withoutKey(registry, waiting[0].id);
		else if (i % 7 === 6 && registry.keys.length > 2) registry = withoutKey(registry, registry.keys[0].id);
		else if (i % 3 === 1) {
			registry = withNewestSigning(registry);
			assert.ok(!signed.has(registry.signingKey), `${registry.signingKey} again`);
			signed.add(registry.signingKey);
		}
		const ids = registry.keys.map(({ id }) => id);
		assert.equal(new Set(ids).size, ids.length);
		assert.ok(ids.includes(registry.signingKey));
	}
	assert.ok(signed.size > 40);
});

test("after key 255 there is no further one; one that waits can be dropped or sign", () => {
	let registry = sample();
	while (registry.keys.length < KEY_ID_MAX) registry = withNewKey(registry);
	assert.throws(() => withNewKey(registry), /255 is taken. Drop key 255, which has signed nothing, or sign with it/);
	assert.deepEqual(uses(withNewKey(withoutKey(registry, KEY_ID_MAX))).at(-1), "255 waits");
	const last = withNewestSigning(registry);
	assert.equal(last.signingKey, KEY_ID_MAX);
	for (const change of [withNewKey, withNewestSigning]) assert.throws(() => change(last), /255 is taken. Only an export that is made anew/);
});
