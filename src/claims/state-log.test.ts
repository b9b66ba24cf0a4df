// The log against what was in memory: killed anywhere, a server goes on with the same clients, sessions, opens and locks.

import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { fc } from "../../test/support/fast-check.ts";
import { checkTables } from "./check-tables.test-support.ts";
import type { Claims } from "./claims.ts";
import { ClaimError } from "./errors.ts";
import { ALL_BYTES, bytes, claimFolder, done, memoryFolder, startClaims, TestClient } from "./new-claims.test-support.ts";
import type { Stateid } from "./operations.ts";
import type { AnyState } from "./records.ts";

/** All that must outlive a kill, in a form that can be compared. */
function contentOf(claims: Claims) {
	const { tables } = claims;
	const states: unknown[] = [];
	for (let index = 0; index < tables.states.places; index++) {
		const state = tables.states.at(index);
		if (state !== null) states.push(shown(state));
	}
	const clients = [...tables.confirmed.values()].map((client) => ({
		id: [client.hi, client.lo],
		owner: client.ownerKey,
		principal: client.principal,
		hasReclaimed: client.hasReclaimed,
		sequence: client.sequence,
		verifier: client.verifier.toString("hex"),
		created: client.created === null || client.created.error !== null ? client.created : client.created.session.id.toString("hex"),
	}));
	const sessions = [...tables.sessions.values()].map(({ id, client, fore, back, flags, callbackProgram, callbackSecurity }) => {
		return { id: id.toString("hex"), client: client.lo, fore, back, flags, callbackProgram, callbackSecurity: callbackSecurity.toString() };
	});
	const byId = (a: { id: unknown }, b: { id: unknown }) => (String(a.id) < String(b.id) ? -1 : 1);
	return { clients: clients.sort(byId), sessions: sessions.sort(byId), states };
}

function shown(state: AnyState): unknown {
	const { index, generation, seqid, kind } = state;
	const place = { index, generation, seqid, kind };
	if (state.kind === "revoked") return { ...place, client: state.client.lo };
	const owner = [state.owner.client.lo, state.owner.key, state.file.key];
	if (state.kind === "open") return { ...place, owner, modes: state.modes };
	return {
		...place,
		owner,
		open: state.open.index,
		ranges: state.ranges.map(({ startHi, startLo, endHi, endLo, isWrite }) => [startHi, startLo, endHi, endLo, isWrite]),
	};
}

type Step = {
	readonly kind: string;
	readonly who: number;
	readonly file: string;
	readonly owner: string;
	readonly from: number;
	readonly mode: number;
};

/** Two clients that open, lock and close; what is refused is passed over. */
class Game {
	readonly players: TestClient[] = [];
	readonly stateids = new Map<string, Stateid>();

	async begin(claims: Claims): Promise<void> {
		for (const name of ["a", "b"]) this.players.push(await new TestClient(claims, name).come());
	}

	/** The same clients go on after a restart. */
	goOn(claims: Claims): void {
		for (const player of this.players) player.goOn(claims);
	}

	async play({ kind, who, file, owner, from, mode }: Step): Promise<void> {
		const player = this.players[who];
		const key = `${who} ${owner} ${file}`;
		const open = this.stateids.get(`open ${key}`);
		const lock = this.stateids.get(`lock ${key}`);
		const keep = (name: string, stateid: Stateid) => this.stateids.set(`${name} ${key}`, stateid);
		const handle = Buffer.from(file);
		const range = from === 9 ? ALL_BYTES : bytes(from, from + 3);
		const type = mode > 1 ? "write" : "read";
		if (kind === "open") keep("open", await done(() => player.open(file, mode, 0, owner)));
		else if (kind === "silence")
			(player.claims as unknown as { clients: { renew(client: unknown): void } }).clients.renew(player.session.client);
		else if (open === undefined) return;
		else if (kind === "close") {
			player.close(open, file);
			this.stateids.delete(`open ${key}`);
			this.stateids.delete(`lock ${key}`);
		} else if (kind === "downgrade")
			keep(
				"open",
				player.run((change) => player.claims.downgrade(change, open, handle, { access: mode, deny: 0 })),
			);
		else if (kind === "lock") {
			const result = await done(() => player.lock(open, file, type, range, owner));
			if ("granted" in result) keep("lock", result.granted);
		} else if (lock === undefined) return;
		else if (kind === "unlock") keep("lock", player.unlock(lock, file, range));
		else {
			player.run((change) => player.claims.freeStateid(change, lock));
			this.stateids.delete(`lock ${key}`);
		}
	}
}

const STEP: fc.Arbitrary<Step> = fc.record({
	kind: fc.constantFrom("open", "open", "open", "lock", "lock", "unlock", "downgrade", "close", "free", "restart"),
	who: fc.integer({ min: 0, max: 1 }),
	file: fc.constantFrom("x", "y", "z"),
	owner: fc.constantFrom("p", "q"),
	from: fc.integer({ min: 0, max: 9 }),
	mode: fc.integer({ min: 1, max: 3 }),
});

async function passingOver(act: () => Promise<void>): Promise<void> {
	try {
		await act();
	} catch (error) {
		if (!(error instanceof ClaimError)) throw error;
	}
}

test("whatever is opened, locked and closed, and wherever the server is killed, all stands as it was", async (t) => {
	const root = memoryFolder(t);
	let run = 0;
	await fc.assert(
		fc.asyncProperty(fc.array(STEP, { maxLength: 50, size: "max" }), fc.constantFrom(0, undefined), async (steps, smallLogBytes) => {
			const folder = join(root, `run ${run++}`);
			const options = smallLogBytes === undefined ? {} : { smallLogBytes };
			let { claims, told } = startClaims(folder, options);
			const game = new Game();
			await game.begin(claims);
			for (const step of steps) {
				if (step.kind !== "restart") await passingOver(() => game.play(step));
				else {
					const before = contentOf(claims);
					claims.destroy();
					({ claims, told } = startClaims(folder, options));
					assert.deepEqual(contentOf(claims), before);
					assert.deepEqual([...claims.heldHandles()].map(String).sort(), [...claims.tables.files.keys()].sort());
					assert.equal(claims.inGrace, false);
					game.goOn(claims);
				}
				// the log that is written anew gets on, a turn at a time
				told.deferred.shift()?.();
				if (step.from === 0) await turn();
				checkTables(claims);
			}
		}),
		{ numRuns: 60 },
	);
});

test("a log is written anew, in turns, when more than half of it is of the past, and nothing is lost meanwhile", async (t) => {
	const folder = claimFolder(t);
	const { claims, told } = startClaims(folder, { smallLogBytes: 100_000 });
	const game = new Game();
	await game.begin(claims);
	const [a, b] = game.players;
	const kept = [];
	for (let i = 0; i < 2500; i++) kept.push(await done(() => a.open(`a file with a long name ${i}`)));
	let most = 0;
	let times = 0;
	for (let i = 0; i < 6000; i++) {
		b.close(await done(() => b.open("y")), "y");
		if (i % 3 === 0 && kept.length > 1000) a.close(kept.pop() as Stateid, `a file with a long name ${kept.length}`);
		if (told.deferred.length > 0) {
			// some more is changed between two turns
			if (i % 20 === 0) told.deferred.shift()?.();
		} else if (existsSync(join(folder, "log.new"))) {
			times++;
			while (existsSync(join(folder, "log.new"))) await turn();
		}
		if (i % 100 === 0) most = Math.max(most, statSync(join(folder, "log")).size);
	}
	assert.ok(times >= 3, `it was written anew ${times} times`);
	assert.ok(most < 750_000, `the log had ${most} bytes`);
	const before = contentOf(claims);
	claims.destroy();
	assert.deepEqual(contentOf(startClaims(folder).claims), before);
	assert.equal(claims.tables.opens, kept.length);
});
