// The list of POSIX behaviour on a plain local folder: what it demands is what this kernel does.

import { chmodSync } from "node:fs";
import { after, before } from "node:test";
import { needs } from "../support/requirements.ts";
import { cannotMount, Scratch } from "../support/scratch.ts";
import { plantAll, testAll } from "./list.ts";
import { localFrontEnd } from "./local-front-end.ts";

const skip = needs("root", "mkfifo", "mknod", "perl") || cannotMount("ext4");
let made: Scratch | undefined;
let top = "";

before(() => {
	if (skip !== false) return;
	made = new Scratch();
	chmodSync(made.path, 0o755);
	top = made.mount("ext4", "local", 64);
	plantAll(top, top, ["lower"]);
});
after(() => made?.close());

testAll(() => localFrontEnd("local folder", top), skip, ["lower"]);
