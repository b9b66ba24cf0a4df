import assert from "node:assert/strict";
import { linkSync, lstatSync, readdirSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { TRUSTED_XATTRS } from "../../src/layer/layer.ts";
import { allocate } from "../../src/linux/memory.ts";
import { checkUpper } from "../../src/overlay/check/check.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { OverlayError, Pending } from "../../src/vfs/errors.ts";
import type { OverlayObject } from "../../src/vfs/operations.ts";
import { abandon } from "../crash/stage.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { plant } from "../support/lower-tree.ts";
import { needs, sampled } from "../support/requirements.ts";
import { scratch } from "../support/scratch.ts";

const skip = needs("root");
const bytes = (text: string) => Buffer.from(text);
const isCode = (code: string) => (error: unknown) => error instanceof OverlayError && error.code === code;
const LARGE = "0123456789abcdef".repeat(40);
const buffer = allocate(4096);

/** What is tried with each kind of handles. */
const KINDS: readonly (readonly [string, Partial<OpenOptions>])[] = [
	["kernel handles", {}],
	["portable handles", { handles: "portable" }],
	["portable handles and owners beside the files", { handles: "portable", fakeRoot: true, userXattrs: true }],
];

/** A file of each kind, by how it lies in the layers, with what it holds. */
const FILES: Readonly<Record<string, string>> = {
	lower: "lower content",
	linked: "linked content",
	large: LARGE,
	copied: "copied content",
	"copied in part": LARGE.replace("0", "#"),
	born: "born content",
};

class Rig {
	readonly base: string;
	readonly options: Partial<OpenOptions>;
	overlay: Overlay;

	constructor(t: TestContext, options: Partial<OpenOptions>) {
		this.base = scratch(t).mount("tmpfs");
		this.options = options;
		plant(join(this.base, "lower"), {
			lower: FILES.lower,
			linked: FILES.linked,
			large: LARGE,
			copied: "#opied content",
			"copied in part": LARGE,
			other: "",
		});
		linkSync(join(this.base, "lower/linked"), join(this.base, "lower/linked too"));
		this.overlay = this.open();
		t.after(() => this.overlay.close());
	}

	open(changes: Partial<OpenOptions> = {}): Overlay {
		const { base } = this;
		return openOverlay({
			lowers: [join(base, "lower")],
			upper: join(base, "upper"),
			stateFolder: join(base, "state"),
			isSync: false,
			purpose: "serve",
			nodesMax: 1,
			restoresHolds: true,
			linkNames: this.options.handles === "portable",
			partialLimits: { bytesMin: 256, granuleBytes: 16, fills: false },
			...this.options,
			...changes,
		}).overlay;
	}

	async run<T>(step: (overlay: Overlay) => T): Promise<T> {
		return untilReady(() => {
			this.overlay.beginPass();
			return step(this.overlay);
		});
	}

	async build(): Promise<void> {
		await this.run((overlay) => overlay.write(walk(overlay, "copied"), ROOT, 0, bytes("c")));
		await this.run((overlay) => overlay.write(walk(overlay, "copied in part"), ROOT, 0, bytes("#")));
		const { object } = await this.run((overlay) => overlay.create(overlay.root, bytes("born"), ROOT, { mode: "guarded", attributes: {} }));
		await this.run((overlay) => overlay.write(object, ROOT, 0, bytes(FILES.born)));
	}

	/** Starts again, after an end or as a kill leaves it, as a front end that held these. */
	async restart(isKilled: boolean, handles: readonly Uint8Array[] | null, changes: Partial<OpenOptions> = {}): Promise<void> {
		if (isKilled) abandon(this.overlay);
		else await this.overlay.close();
		this.overlay = this.open(changes);
		if (handles === null) return;
		assert.equal(this.overlay.restoreHolds(handles), 0);
		this.overlay.endOfRestore();
	}

	async read(handle: Buffer): Promise<string> {
		return this.run((overlay) => {
			const { count } = overlay.read(overlay.decode(handle), ROOT, 0, buffer.bytes.length, buffer, 0);
			return buffer.bytes.toString("latin1", 0, count);
		});
	}

	/** Everything else goes out of memory. */
	forget(): void {
		this.overlay.engine.nodes.forgetAll();
	}

	get orphans(): string[] {
		return readdirSync(join(this.base, "upper.work/holdfast/orphans"));
	}

	findings(): string[] {
		const { base } = this;
		const xattr = TRUSTED_XATTRS;
		const report = checkUpper({ lowers: [join(base, "lower")], upper: join(base, "upper"), work: undefined, xattr, isRepair: false });
		return report.findings.map(({ kind, path, message }) => `${kind} ${path} ${message}`);
	}
}

/** What takes the last name of a file away. */
const ENDS: Readonly<Record<string, (overlay: Overlay, name: string) => void>> = {
	removed: (overlay, name) => overlay.remove(overlay.root, bytes(name), ROOT),
	"replaced by a rename": (overlay, name) => overlay.rename(overlay.root, bytes("other"), overlay.root, bytes(name), ROOT),
};

async function takeLastName(rig: Rig, name: string, end: keyof typeof ENDS): Promise<void> {
	if (name === "linked") await rig.run((overlay) => overlay.remove(overlay.root, bytes("linked too"), ROOT));
	await rig.run((overlay) => ENDS[end](overlay, name));
}

for (const [kind, options] of KINDS) {
	const cases = Object.keys(FILES).flatMap((name) =>
		Object.keys(ENDS).flatMap((end) => [false, true].map((isKilled) => [name, end, isKilled] as const)),
	);
	for (const [name, end, isKilled] of sampled(cases, 8)) {
		const how = `${end}, the server ${isKilled ? "killed" : "ended"} meanwhile, ${kind}`;
		test(`a held file, ${name}, goes on without a name: ${how}`, { skip }, async (t) => {
			const rig = new Rig(t, options);
			await rig.build();
			const content = FILES[name];
			const { handle } = walk(rig.overlay, name);
			const { fileidHi, fileidLo } = rig.overlay.getattr(walk(rig.overlay, name));
			rig.overlay.hold(handle);
			rig.overlay.hold(handle);
			await takeLastName(rig, name, end);
			const isLower = ["lower", "linked", "large"].includes(name);
			assert.equal(rig.orphans.length, 1);
			const orphan = join(rig.base, "upper.work/holdfast/orphans", rig.orphans[0]);
			assert.equal(lstatSync(orphan).isSymbolicLink(), isLower, "nothing of a lower file is copied");

			const shows = async (expected: string, when: string): Promise<void> => {
				rig.forget();
				assert.equal(await rig.read(handle), expected, when);
				const attributes = await rig.run((overlay) => overlay.getattr(overlay.decode(handle)));
				assert.deepEqual([attributes.nlink, attributes.fileidHi, attributes.fileidLo], [0, fileidHi, fileidLo], when);
				assert.equal(attributes.sizeLo, expected.length, when);
			};
			await shows(content, "without a name");
			const link = (overlay: Overlay) => overlay.link(overlay.decode(handle), overlay.root, bytes("again"), ROOT);
			await assert.rejects(rig.run(link), isCode("noent"));
			await rig.restart(isKilled, [handle, handle]);
			await shows(content, "after a restart");

			const { overlay } = rig;
			await rig.run(() => overlay.write(overlay.decode(handle), ROOT, 2, bytes("WRITTEN")));
			let expected = `${content.slice(0, 2)}WRITTEN${content.slice(9)}`;
			await shows(expected, "written");
			await rig.run(() => overlay.setattr(overlay.decode(handle), ROOT, { mode: 0o601 }));
			await rig.run(() => overlay.setxattr(overlay.decode(handle), ROOT, bytes("user.held"), bytes("so")));
			await rig.run(() => overlay.setattr(overlay.decode(handle), ROOT, { size: 11 }));
			expected = expected.slice(0, 11);
			await shows(expected, "cut");
			assert.equal(rig.orphans.length, 1, "only the inode");
			assert.ok(lstatSync(join(rig.base, "upper.work/holdfast/orphans", rig.orphans[0])).isFile());

			await rig.restart(isKilled, [handle, handle]);
			await shows(expected, "changed, after a restart");
			const { mode } = await rig.run((again) => again.getattr(again.decode(handle)));
			assert.equal(mode, 0o601);
			assert.equal((await rig.run((again) => again.getxattr(again.decode(handle), ROOT, bytes("user.held")))).toString(), "so");
			assert.equal(rig.overlay.lookup(rig.overlay.root, bytes(name), ROOT) === null, end === "removed");

			rig.overlay.letGo(handle);
			await shows(expected, "held once");
			rig.forget();
			rig.overlay.letGo(handle);
			assert.deepEqual(rig.orphans, []);
			await assert.rejects(rig.read(handle), isCode("stale"));
			assert.throws(
				() => rig.overlay.letGo(handle),
				(error) => error instanceof Error && !(error instanceof OverlayError),
			);
			await rig.restart(isKilled, []);
			await assert.rejects(rig.read(handle), isCode("stale"));
			await rig.overlay.close();
			assert.deepEqual(rig.findings(), []);
			rig.overlay = rig.open();
		});
	}

	test(`without a name and without a hold nothing is left of an object after a restart, once the front end has said what it holds: ${kind}`, {
		skip,
	}, async (t) => {
		const rig = new Rig(t, options);
		await rig.build();
		const handles = new Map<string, Buffer>();
		for (const name of Object.keys(FILES)) {
			const { handle } = walk(rig.overlay, name);
			handles.set(name, handle);
			rig.overlay.hold(handle);
			await takeLastName(rig, name, "removed");
		}
		await rig.overlay.close();
		assert.deepEqual(rig.findings(), [], "check finds held objects in order");
		rig.overlay = rig.open();
		for (const [name, handle] of handles) assert.equal(await rig.read(handle), FILES[name], `${name}, before the end of the restoring`);
		assert.equal(rig.overlay.restoreHolds([handles.get("lower") as Buffer, Buffer.alloc(40, 7)]), 1, "what is no handle is left out");
		const born = handles.get("born") as Buffer;
		rig.overlay.hold(born);
		rig.overlay.endOfRestore();
		for (const [name, handle] of handles) {
			if (name === "lower" || name === "born") assert.equal(await rig.read(handle), FILES[name], name);
			else await assert.rejects(rig.read(handle), isCode("stale"), name);
		}
		assert.throws(() => rig.overlay.restoreHolds([]), /behind their time/);
		assert.equal(rig.orphans.length, 2);
		await rig.restart(true, null, { restoresHolds: false });
		for (const handle of handles.values()) await assert.rejects(rig.read(handle), isCode("stale"));
		assert.deepEqual(rig.orphans, []);
		await rig.overlay.close();
		assert.deepEqual(rig.findings(), []);
		rig.overlay = rig.open();
	});
}

test("directories are not held, and a hold needs no object in memory", { skip }, async (t) => {
	const rig = new Rig(t, {});
	assert.throws(() => rig.overlay.hold(rig.overlay.root.handle), isCode("isdir"));
	assert.throws(() => rig.overlay.hold(Buffer.alloc(40)), isCode("badhandle"));
	const handles: Buffer[] = [];
	for (let i = 0; i < 200; i++) {
		const { object }: { object: OverlayObject } = await rig.run((overlay) =>
			overlay.create(overlay.root, bytes(`file${i}`), ROOT, { mode: "guarded", attributes: {} }),
		);
		handles.push(object.handle);
		rig.overlay.hold(object.handle);
	}
	rig.overlay.beginPass();
	rig.overlay.beginPass();
	assert.ok(rig.overlay.engine.nodes.size <= 3, `${rig.overlay.engine.nodes.size} objects are in memory`);
	assert.equal(rig.overlay.engine.held.size, 200);
	const open = rig.overlay.engine.descriptors;
	await rig.restart(false, handles);
	assert.ok(rig.overlay.engine.nodes.size <= 1 && open !== rig.overlay.engine.descriptors, "nothing is loaded for a hold that is restored");
});

test("a held lower file that is being copied up when its last name goes is written to as one without a name", { skip }, async (t) => {
	const rig = new Rig(t, {});
	const path = join(rig.base, "lower/lower");
	// a small one would be copied at once
	truncateSync(path, 2 ** 20);
	const { handle } = walk(rig.overlay, "lower");
	rig.overlay.hold(handle);
	const write = (overlay: Overlay) => overlay.write(overlay.decode(handle), ROOT, 0, bytes("L"));
	assert.throws(
		() => write(rig.overlay),
		(error) => error instanceof Pending,
	);
	await rig.run((overlay) => overlay.remove(overlay.root, bytes("lower"), ROOT));
	await rig.run(write);
	assert.equal(rig.overlay.getattr(rig.overlay.decode(handle)).nlink, 0);
	assert.match(await rig.read(handle), /^Lower content\0/);
	assert.ok(readFileSync(path, "latin1").startsWith(`${FILES.lower}\0`), "the lower itself stays");
});
