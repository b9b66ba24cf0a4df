// When a page of READDIRPLUS may be used again.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PageCache } from "./page-cache.ts";

test("a page is had again until something changes, or three seconds are over", () => {
	const cache = new PageCache();
	const page = Buffer.from("page");
	cache.set("a", 7, 1000, page);
	assert.equal(cache.get("a", 7, 3999), page);
	assert.equal(cache.get("b", 7, 1000), null);
	assert.equal(cache.get("a", 7, 4000), null);
	cache.set("a", 7, 1000, page);
	assert.equal(cache.get("a", 8, 1000), null);
	assert.equal(cache.get("a", 7, 1000), null, "what was out of date is gone");
});

test("the oldest pages make room, and one that is written again counts once", () => {
	const cache = new PageCache();
	for (let i = 0; i < 100; i++) cache.set("again", 0, 0, Buffer.alloc(1024 * 1024));
	for (let i = 0; i < 16; i++) cache.set(`page ${i}`, 0, 0, Buffer.alloc(1024 * 1024));
	assert.equal(cache.get("again", 0, 0), null);
	for (let i = 0; i < 16; i++) assert.notEqual(cache.get(`page ${i}`, 0, 0), null);
	cache.set("one more", 0, 0, Buffer.alloc(1));
	assert.equal(cache.get("page 0", 0, 0), null);
	assert.notEqual(cache.get("page 1", 0, 0), null);
});
