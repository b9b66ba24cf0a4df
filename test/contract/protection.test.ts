import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, chmodSync, linkSync, mkdirSync, renameSync, truncateSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { release } from "../../src/overlay/upkeep/release.ts";
import { OverlayError } from "../../src/vfs/errors.ts";
import { ROOT, walk } from "../in-process/walk.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, scratch } from "../support/scratch.ts";

const bytes = (name: string): Buffer => Buffer.from(name);

/** What is tried on a tree, by name: for the kernel and for holdfast. */
const ATTEMPTS: Record<string, { readonly kernel: (top: string) => void; readonly ours: (overlay: Overlay) => void }> = {
	"write into an immutable file": {
		kernel: (top) => writeFileSync(join(top, "immutable"), "x", { flag: "r+" }),
		ours: (overlay) => overlay.write(walk(overlay, "immutable"), ROOT, 0, bytes("x")),
	},
	"truncate an immutable file": {
		kernel: (top) => truncateSync(join(top, "immutable"), 1),
		ours: (overlay) => overlay.setattr(walk(overlay, "immutable"), ROOT, { size: 1 }),
	},
	"chmod an immutable file": {
		kernel: (top) => chmodSync(join(top, "immutable"), 0o600),
		ours: (overlay) => overlay.setattr(walk(overlay, "immutable"), ROOT, { mode: 0o600 }),
	},
	"remove an immutable file": {
		kernel: (top) => unlinkSync(join(top, "immutable")),
		ours: (overlay) => overlay.remove(overlay.root, bytes("immutable"), ROOT),
	},
	"rename an immutable file": {
		kernel: (top) => renameSync(join(top, "immutable"), join(top, "other")),
		ours: (overlay) => overlay.rename(overlay.root, bytes("immutable"), overlay.root, bytes("other"), ROOT),
	},
	"rename over an immutable file": {
		kernel: (top) => renameSync(join(top, "plain"), join(top, "immutable")),
		ours: (overlay) => overlay.rename(overlay.root, bytes("plain"), overlay.root, bytes("immutable"), ROOT),
	},
	"link an immutable file": {
		kernel: (top) => linkSync(join(top, "immutable"), join(top, "other")),
		ours: (overlay) => overlay.link(walk(overlay, "immutable"), overlay.root, bytes("other"), ROOT),
	},
	"make a name in an immutable directory": {
		kernel: (top) => mkdirSync(join(top, "frozen/new")),
		ours: (overlay) => void overlay.mkdir(walk(overlay, "frozen"), bytes("new"), ROOT, { mode: 0o755 }),
	},
	"remove a name from an immutable directory": {
		kernel: (top) => unlinkSync(join(top, "frozen/file")),
		ours: (overlay) => overlay.remove(walk(overlay, "frozen"), bytes("file"), ROOT),
	},
	"write a file in an immutable directory": {
		kernel: (top) => writeFileSync(join(top, "frozen/file"), "x", { flag: "r+" }),
		ours: (overlay) => overlay.write(walk(overlay, "frozen/file"), ROOT, 0, bytes("x")),
	},
	"make another name in it now that it is copied up": {
		kernel: (top) => mkdirSync(join(top, "frozen/new")),
		ours: (overlay) => void overlay.mkdir(walk(overlay, "frozen"), bytes("new"), ROOT, { mode: 0o755 }),
	},
	"write into the middle of an append-only file": {
		kernel: (top) => writeFileSync(join(top, "log"), "x", { flag: "r+" }),
		ours: (overlay) => overlay.write(walk(overlay, "log"), ROOT, 0, bytes("x")),
	},
	"truncate an append-only file": {
		kernel: (top) => truncateSync(join(top, "log"), 1),
		ours: (overlay) => overlay.setattr(walk(overlay, "log"), ROOT, { size: 1 }),
	},
	"append to an append-only file": {
		kernel: (top) => appendFileSync(join(top, "log"), "more"),
		ours: (overlay) => overlay.write(walk(overlay, "log"), ROOT, 3, bytes("more")),
	},
	"write into the middle of it now that it is copied up": {
		kernel: (top) => writeFileSync(join(top, "log"), "x", { flag: "r+" }),
		ours: (overlay) => overlay.write(walk(overlay, "log"), ROOT, 0, bytes("x")),
	},
	"set the times of an append-only file": {
		kernel: (top) => utimesSync(join(top, "log"), 1, 1),
		ours: (overlay) => overlay.setattr(walk(overlay, "log"), ROOT, { atime: { sec: 1, nsec: 0 }, mtime: { sec: 1, nsec: 0 } }),
	},
	"remove from an append-only directory": {
		kernel: (top) => unlinkSync(join(top, "grows/file")),
		ours: (overlay) => overlay.remove(walk(overlay, "grows"), bytes("file"), ROOT),
	},
	"make a name in an append-only directory": {
		kernel: (top) => mkdirSync(join(top, "grows/new")),
		ours: (overlay) => void overlay.mkdir(walk(overlay, "grows"), bytes("new"), ROOT, { mode: 0o755 }),
	},
	"remove that name again": {
		kernel: (top) => execFileSync("rmdir", [join(top, "grows/new")], { stdio: "ignore" }),
		ours: (overlay) => overlay.rmdir(walk(overlay, "grows"), bytes("new"), ROOT),
	},
};

test("what is immutable or append-only in a lower is so for the superuser too, before and after copy up, as in the kernel", {
	skip: needs("root") || cannotMount("ext4"),
}, async (t) => {
	const made = scratch(t);
	const base = made.mount("ext4", "layers");
	const folder = (name: string) => {
		mkdirSync(join(base, name));
		return join(base, name);
	};
	const [lower, upper, work, kernelUpper, kernelWork, mounted] = ["lower", "upper", "work", "kernel-upper", "kernel-work", "mounted"].map(
		folder,
	);
	for (const name of ["frozen", "grows"]) {
		mkdirSync(join(lower, name));
		writeFileSync(join(lower, name, "file"), "file");
	}
	for (const name of ["immutable", "log", "plain"]) writeFileSync(join(lower, name), "abc");
	execFileSync("chattr", ["+i", join(lower, "immutable"), join(lower, "frozen")]);
	execFileSync("chattr", ["+a", join(lower, "log"), join(lower, "grows")]);
	const layers = `lowerdir=${lower},upperdir=${kernelUpper},workdir=${kernelWork},index=on,nfs_export=on`;
	execFileSync("mount", ["-t", "overlay", "overlay", "-o", layers, mounted]);
	const kernel: Record<string, string> = {};
	try {
		for (const [name, attempt] of Object.entries(ATTEMPTS)) {
			try {
				attempt.kernel(mounted);
				kernel[name] = "ok";
			} catch (error) {
				kernel[name] = (error as NodeJS.ErrnoException).code ?? "EPERM";
			}
		}
	} finally {
		execFileSync("umount", [mounted]);
	}
	assert.equal(kernel["write into an immutable file"], "EPERM");
	const open = (purpose: "serve" | "release") =>
		openOverlay({ lowers: [lower], upper, work, stateFolder: join(base, "state"), isSync: false, purpose }).overlay;
	const overlay = open("serve");
	const ours: Record<string, string> = {};
	for (const [name, attempt] of Object.entries(ATTEMPTS)) {
		try {
			await untilReady(() => attempt.ours(overlay));
			ours[name] = "ok";
		} catch (error) {
			if (!(error instanceof OverlayError)) throw error;
			ours[name] = `E${error.code.toUpperCase()}`;
		}
	}
	await overlay.close();
	assert.deepEqual(ours, kernel);
	await release(open("release"), work, false);
	execFileSync("mount", ["-t", "overlay", "overlay", "-o", `lowerdir=${lower},upperdir=${upper},workdir=${work},index=on`, mounted]);
	try {
		const attributes = execFileSync("lsattr", ["-d", ...["log", "frozen", "grows"].map((name) => join(mounted, name))], {
			encoding: "utf8",
		});
		assert.match(attributes, /a[^ ]* .*log\n.*i[^ ]* .*frozen\n.*a[^ ]* .*grows\n/);
	} finally {
		execFileSync("umount", [mounted]);
	}
});
