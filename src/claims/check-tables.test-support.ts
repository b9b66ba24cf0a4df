// Whether the tables of claims agree with one another: for tests, after each step.

import assert from "node:assert/strict";
import type { Claims } from "./claims.ts";
import { compare } from "./range-tree.ts";
import type { AnyState, ClientRecord, FileRecord, LockedRange, OpenState } from "./records.ts";

export function checkTables({ tables, sessions }: Claims): void {
	const states = statesOf(tables.states);
	const clients = new Set(tables.clients.values());
	for (const state of states) {
		const client = state.kind === "revoked" ? state.client : state.owner.client;
		if (client.isGone) clients.add(client);
	}
	for (const client of clients) checkClient(client, states);
	assert.deepEqual(
		new Set([...tables.confirmed.values(), ...tables.unconfirmed.values()]),
		new Set(tables.clients.values()),
		"each client is known by its owner too",
	);
	for (const [key, client] of tables.confirmed) assert.ok(client.isConfirmed && client.ownerKey === key);
	for (const [key, client] of tables.unconfirmed) assert.ok(!client.isConfirmed && client.ownerKey === key);
	for (const session of tables.sessions.values()) {
		assert.equal(tables.clients.get(session.client.lo), session.client, "no session outlives its client");
		assert.ok(session.client.sessions.has(session));
	}
	assert.equal(tables.sessions.size, sum([...tables.clients.values()].map((client) => client.sessions.size)));
	assert.equal(sessions.reservedBytes, sum([...tables.sessions.values()].map(({ reservedBytes }) => reservedBytes)));
	for (const file of tables.files.values()) checkFile(file, states);
	const opens = [...states].filter((state) => state.kind === "open");
	const locks = [...states].filter((state) => state.kind === "lock");
	assert.equal(tables.opens, opens.length);
	assert.equal(tables.lockStates, locks.length);
	assert.equal(tables.locks, sum(locks.map(({ ranges }) => ranges.length)));
	assert.equal(tables.states.size, states.size);
	assert.equal(tables.revoked, states.size - opens.length - locks.length);
	assert.equal(tables.revoked, sum([...clients].map(({ revoked }) => revoked.size)));
	const bytes = [...opens.map(({ owner, file }) => owner.key.length + file.key.length), ...locks.map(({ owner }) => owner.key.length)];
	assert.equal(tables.stateBytes, sum(bytes));
	for (const state of states) {
		const client = state.kind === "revoked" ? state.client : state.owner.client;
		assert.notEqual(tables.clients.get(client.lo) === client, client.isGone, "no state outlives its client, but until it is taken away");
		if (state.kind !== "revoked") assert.equal(tables.files.get(state.file.key), state.file);
	}
}

function statesOf(table: Claims["tables"]["states"]): Set<AnyState> {
	const states = new Set<AnyState>();
	for (let index = 0; index < table.places; index++) {
		const state = table.at(index);
		if (state === null) continue;
		assert.equal(state.index, index);
		states.add(state);
	}
	return states;
}

function checkClient(client: ClientRecord, states: Set<AnyState>): void {
	let opens = 0;
	let lockStates = 0;
	let locks = 0;
	for (const [key, owner] of client.openOwners) {
		assert.equal(owner.key, key);
		const listed = listOf(owner.first);
		assert.equal(listed.length, owner.count);
		assert.ok(owner.count > 0, "an owner without anything is forgotten");
		opens += owner.count;
		for (const open of listed) {
			assert.ok(states.has(open) && open.owner === owner);
			if (open.file.crowd !== null) assert.equal(open.file.crowd.byOwner.get(owner), open);
		}
	}
	for (const [key, owner] of client.lockOwners) {
		assert.equal(owner.key, key);
		const listed = listOf(owner.first);
		assert.equal(listed.length, owner.count);
		assert.ok(owner.count > 0);
		lockStates += owner.count;
		for (const state of listed) {
			assert.ok(states.has(state) && state.owner === owner && state.open.owner.client === client);
			if (owner.byFile !== null) assert.equal(owner.byFile.get(state.file), state);
			locks += state.ranges.length;
		}
	}
	assert.deepEqual({ opens, lockStates, locks }, { opens: client.opens, lockStates: client.lockStates, locks: client.locks });
	for (const state of client.revoked) assert.ok(states.has(state));
}

function checkFile(file: FileRecord, states: Set<AnyState>): void {
	const counts = { readers: 0, writers: 0, denyReaders: 0, denyWriters: 0 };
	assert.notEqual(file.firstOpen, null, "an object that nobody has open is forgotten");
	const ranges = new Set<LockedRange>();
	const opens = new Set<OpenState>();
	for (let open = file.firstOpen; open !== null; open = open.nextInFile) {
		assert.ok(states.has(open) && open.file === file && open.modes !== 0);
		assert.ok(open.nextInFile === null || open.nextInFile.previousInFile === open);
		opens.add(open);
		counts.readers += open.access & 1;
		counts.writers += open.access >> 1;
		counts.denyReaders += open.deny & 1;
		counts.denyWriters += open.deny >> 1;
		for (let state = open.firstLock; state !== null; state = state.nextOfOpen) {
			assert.ok(state.open === open && state.file === file);
			for (const range of state.ranges) ranges.add(range);
		}
	}
	assert.equal(file.opens, opens.size);
	if (file.crowd !== null) {
		const { byOwner, ...counted } = file.crowd;
		assert.equal(byOwner.size, opens.size);
		assert.deepEqual(counted, counts);
	}
	const inTrees = [...rangesIn(file.locks?.readers ?? null), ...rangesIn(file.locks?.writers ?? null)];
	assert.deepEqual(new Set(inTrees), ranges);
	checkConflicts(inTrees);
	for (const { open } of file.locks?.waiters ?? []) assert.ok(opens.has(open), "nobody waits without an open");
}

function checkConflicts(ranges: readonly LockedRange[]): void {
	for (const [i, a] of ranges.entries()) {
		for (const b of ranges.slice(i + 1)) {
			const apart = compare(a.endHi, a.endLo, b.startHi, b.startLo) <= 0 || compare(b.endHi, b.endLo, a.startHi, a.startLo) <= 0;
			assert.ok(apart || a.state.owner === b.state.owner || !(a.isWrite || b.isWrite), "no lock is held twice");
		}
	}
}

function rangesIn(root: LockedRange | null): LockedRange[] {
	return root === null ? [] : [...rangesIn(root.left), root, ...rangesIn(root.right)];
}

function listOf<S extends { readonly nextOfOwner: S | null }>(first: S | null): S[] {
	const all: S[] = [];
	for (let state = first; state !== null; state = state.nextOfOwner) all.push(state);
	return all;
}

function sum(numbers: readonly number[]): number {
	return numbers.reduce((a, b) => a + b, 0);
}
