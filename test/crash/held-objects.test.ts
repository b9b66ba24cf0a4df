import assert from "node:assert/strict";
import { linkSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TRUSTED_XATTRS } from "../../src/layer/layer.ts";
import { allocate } from "../../src/linux/memory.ts";
import { checkUpper } from "../../src/overlay/check/check.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { workInline } from "../differential/inline-offload.ts";
import { keyed, keyOf } from "../in-process/keyed.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { plant } from "../support/lower-tree.ts";
import { needs, sampled } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";
import { abandon, bytes, CrashError, counting } from "./stage.ts";

const LARGE = "0123456789abcdef".repeat(40);
const buffer = allocate(4096);

/** Files by how they lie in the layers, with their content. */
const FILES: Readonly<Record<string, string>> = {
	lower: "lower content",
	linked: "linked content",
	large: LARGE,
	copied: "copied content",
	"copied in part": LARGE.replace("0", "#"),
	born: "born content",
};

/** A request to a held object; `takes`: its last name, else it has none any more. `after`: what it holds then. */
interface HeldOperation {
	readonly takes: boolean;
	run(overlay: Overlay, name: string, handle: Buffer): void;
	after(content: string): string;
}

const same = (content: string) => content;

const OPERATIONS: Readonly<Record<string, HeldOperation>> = {
	remove: { takes: true, run: (overlay, name) => overlay.remove(overlay.root, bytes(name), ROOT), after: same },
	"rename over it": {
		takes: true,
		run: (overlay, name) => overlay.rename(overlay.root, bytes("other"), overlay.root, bytes(name), ROOT),
		after: same,
	},
	write: {
		takes: false,
		run: (overlay, _name, handle) => overlay.write(overlay.decode(handle), ROOT, 2, bytes("WRITTEN")),
		after: (content) => `${content.slice(0, 2)}WRITTEN${content.slice(9)}`,
	},
	cut: {
		takes: false,
		run: (overlay, _name, handle) => overlay.setattr(overlay.decode(handle), ROOT, { size: 5 }),
		after: (content) => content.slice(0, 5),
	},
	chmod: { takes: false, run: (overlay, _name, handle) => overlay.setattr(overlay.decode(handle), ROOT, { mode: 0o604 }), after: same },
};

class Place {
	readonly base: string;
	readonly handles: "kernel" | "portable";
	overlay: Overlay;

	constructor(base: string, handles: "kernel" | "portable") {
		this.base = base;
		this.handles = handles;
		mkdirSync(base);
		const contents = { ...FILES, copied: "#opied content", "copied in part": LARGE, other: "other" };
		plant(join(base, "lower"), Object.fromEntries(Object.entries(contents).filter(([name]) => name !== "born")));
		linkSync(join(base, "lower/linked"), join(base, "lower/linked too"));
		this.overlay = this.#open();
	}

	#open(): Overlay {
		const { base, handles } = this;
		const partialLimits = { bytesMin: 256, granuleBytes: 16, fills: false };
		const linkNames = handles === "portable";
		const layers = { lowers: [join(base, "lower")], upper: join(base, "upper"), stateFolder: join(base, "state") };
		const { overlay } = openOverlay({ ...layers, handles, linkNames, partialLimits, isSync: false, purpose: "serve", restoresHolds: true });
		return workInline(overlay);
	}

	run<T>(step: (overlay: Overlay) => T): Promise<T> {
		return untilReady(() => {
			this.overlay.beginPass();
			return step(this.overlay);
		});
	}

	/** A held file of this name, with its last name, or without one. */
	async hold(name: string, isNamed: boolean): Promise<Buffer> {
		if (name === "copied") await this.run((overlay) => overlay.write(walk(overlay, name), ROOT, 0, bytes("c")));
		if (name === "copied in part") await this.run((overlay) => overlay.write(walk(overlay, name), ROOT, 0, bytes("#")));
		if (name === "born") {
			await this.run((overlay) => overlay.create(overlay.root, bytes(name), ROOT, { mode: "guarded", attributes: {} }));
			await this.run((overlay) => overlay.write(walk(overlay, name), ROOT, 0, bytes(FILES.born)));
		}
		const { handle } = walk(this.overlay, name);
		this.overlay.hold(handle);
		if (name === "linked") await this.run((overlay) => overlay.remove(overlay.root, bytes("linked too"), ROOT));
		if (!isNamed) await this.run((overlay) => overlay.remove(overlay.root, bytes(name), ROOT));
		return handle;
	}

	restart(handles: readonly Buffer[]): void {
		this.overlay = this.#open();
		assert.equal(this.overlay.restoreHolds(handles), 0);
		this.overlay.endOfRestore();
	}

	/** Content and link count by the handle, "stale", and whether the name leads there. */
	async see(name: string, handle: Buffer): Promise<string> {
		try {
			return await this.run((overlay) => {
				const file = overlay.decode(handle);
				const { count } = overlay.read(file, ROOT, 0, buffer.bytes.length, buffer, 0);
				const isNamed = overlay.lookup(overlay.root, bytes(name), ROOT) === file;
				return `${overlay.getattr(file).nlink} ${isNamed} ${buffer.bytes.toString("latin1", 0, count)}`;
			});
		} catch (error) {
			if (error instanceof OverlayError) return error.code;
			throw error;
		}
	}

	get orphans(): string[] {
		return readdirSync(join(this.base, "upper.work/holdfast/orphans"));
	}

	async close(when: string): Promise<void> {
		await this.overlay.close();
		const lowers = [join(this.base, "lower")];
		const { findings } = checkUpper({ lowers, upper: join(this.base, "upper"), work: undefined, xattr: TRUSTED_XATTRS, isRepair: false });
		// notes tell of what any copy up or removal may leave when it is killed, as the record of a file that was still being built
		const found = findings.filter(({ severity, path }) => severity === "error" || path.includes("/orphans/"));
		assert.deepEqual(
			found.map(({ kind, path }) => `${kind} ${path}`),
			[],
			when,
		);
	}
}

for (const handles of ["kernel", "portable"] as const) {
	const cases = Object.entries(OPERATIONS).flatMap(([what, operation]) =>
		Object.keys(FILES).map((name) => [what, operation, name] as const),
	);
	for (const [what, operation, name] of sampled(cases, 7)) {
		test(`a kill before any call of this leaves a held file that was ${operation.takes ? "named" : "without a name"} before or after: ${what}, ${name}, ${handles} handles`, {
			skip: needs("root"),
		}, async (t) => {
			const base = scratch(t).mount("tmpfs");
			const content = FILES[name];
			const before = `${operation.takes ? 1 : 0} ${operation.takes} ${content}`;
			const after = `0 false ${operation.after(content)}`;
			let seen = 0;
			for (let k = 0; ; k++) {
				const place = new Place(join(base, `${k}`), handles);
				const when = `killed before call ${k}`;
				const handle = await place.hold(name, operation.takes);
				assert.equal(await place.see(name, handle), before);
				const send = () => place.run((overlay) => operation.run(keyed(overlay, keyOf("client", 1)), name, handle));
				let isKilled = false;
				try {
					await counting(k, send);
				} catch (error) {
					if (!(error instanceof CrashError)) throw error;
					isKilled = true;
				}
				abandon(place.overlay);
				place.restart([handle]);
				const found = await place.see(name, handle);
				assert.ok(found === after || (isKilled && found === before), `${when}: ${found}`);
				if (found === before) seen++;
				await send();
				assert.equal(await place.see(name, handle), after, `${when}, sent again`);
				await place.close(when);
				place.restart([handle]);
				assert.equal(await place.see(name, handle), after, `${when}, sent again, and started once more`);
				assert.equal(place.orphans.length, 1, when);
				place.overlay.letGo(handle);
				assert.equal(await place.see(name, handle), "stale", when);
				assert.deepEqual(place.orphans, [], when);
				await place.close(`${when}, let go`);
				rmSync(place.base, { recursive: true });
				if (!isKilled) break;
			}
			assert.ok(seen > 0, "no kill came before the change");
		});
	}

	for (const name of sampled(Object.keys(FILES), 3)) {
		test(`a kill before any call of letting go leaves what the next start removes: ${name}, ${handles} handles`, {
			skip: needs("root"),
		}, async (t) => {
			const base = scratch(t).mount("tmpfs");
			for (let k = 0; ; k++) {
				const place = new Place(join(base, `${k}`), handles);
				const handle = await place.hold(name, false);
				let isKilled = false;
				try {
					await counting(k, () => place.overlay.letGo(handle));
				} catch (error) {
					if (!(error instanceof CrashError)) throw error;
					isKilled = true;
				}
				abandon(place.overlay);
				place.restart([]);
				assert.equal(await place.see(name, handle), "stale", `killed before call ${k}`);
				assert.deepEqual(place.orphans, []);
				await place.close(`killed before call ${k}`);
				rmSync(place.base, { recursive: true });
				if (!isKilled) break;
			}
		});
	}
}
