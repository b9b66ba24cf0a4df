// The list of POSIX behaviour on a FUSE mount, on objects of a lower, of merged directories, and of an upper.

import { chmodSync } from "node:fs";
import { after, before } from "node:test";
import { FuseMountOfTest } from "../in-process/fuse-mount.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, Scratch } from "../support/scratch.ts";
import { plantAll, testAll } from "./list.ts";
import { localFrontEnd } from "./local-front-end.ts";

const skip = needs("root", "fuse", "mkfifo", "mknod", "perl") || cannotMount("ext4");
let made: Scratch | undefined;
let at = "";

before(async () => {
	if (skip !== false) return;
	made = new Scratch();
	chmodSync(made.path, 0o755);
	const disk = made.mount("ext4", "layers", 128);
	const [lower, upper] = ["layers/lower", "layers/upper"].map((name) => (made as Scratch).folder(name)) as [string, string];
	plantAll(lower, upper);
	chmodSync(lower, 0o755);
	chmodSync(upper, 0o755);
	at = made.folder("mount");
	await FuseMountOfTest.start(made, at, { lowers: [lower], upper, work: `${disk}/work`, stateFolder: `${disk}/state` });
});
after(() => made?.close());

testAll(() => localFrontEnd("FUSE mount", at), skip);
