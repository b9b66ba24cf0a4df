// RecentMap against a model of it, and that no step of it iterates over a Map.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { fc } from "../../test/support/fast-check.ts";
import { RecentMap } from "./recent-map.ts";

test("whatever is set, used and deleted, the entries and their order are as in a list", () => {
	const step = fc.tuple(fc.constantFrom("set", "get", "use", "delete"), fc.integer({ min: 0, max: 7 }));
	fc.assert(
		fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 6 }), (steps, max) => {
			const map = new RecentMap<number, number>(max);
			let model: [number, number][] = [];
			for (const [i, [kind, key]] of steps.entries()) {
				const known = model.find(([own]) => own === key);
				const others = model.filter(([own]) => own !== key);
				if (kind === "get") assert.equal(map.get(key), known?.[1]);
				else if (kind === "use") {
					assert.equal(map.use(key), known?.[1]);
					if (known !== undefined) model = [...others, known];
				} else if (kind === "delete") {
					assert.equal(map.delete(key), known !== undefined);
					model = others;
				} else {
					map.set(key, i);
					model = [...others, [key, i] as [number, number]].slice(-max);
				}
				assert.deepEqual([...map.entries()], model);
				assert.equal(map.size, model.length);
				assert.equal(map.oldest, model[0]?.[0]);
			}
		}),
		{ seed: 1 },
	);
});

test("an entry may be deleted while it is shown", () => {
	const map = new RecentMap<string, number>();
	for (const [i, key] of ["a", "b", "c"].entries()) map.set(key, i);
	for (const [key] of map.entries()) if (key !== "b") map.delete(key);
	assert.deepEqual([...map.entries()], [["b", 1]]);
});

test("what is pushed out is found without iterating over a Map", (t) => {
	const map = new RecentMap<number, number>(100);
	forbidIteration(t);
	for (let i = 0; i < 1000; i++) map.set(i, i);
	for (let i = 900; i < 1000; i += 2) map.use(i);
	while (map.size > 50) map.delete(map.oldest as number);
	assert.equal(map.oldest, 900);
});

/** Until the end of the test whoever iterates over a Map fails. */
function forbidIteration(context: TestContext): void {
	for (const way of ["entries", "keys", "values", "forEach", Symbol.iterator] as const) {
		context.mock.method(Map.prototype, way, () => assert.fail("a Map was iterated over"));
	}
}
