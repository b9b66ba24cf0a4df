// The list of POSIX behaviour through NFSv3, on objects of a lower, of merged directories, and of an upper.

import { after, before } from "node:test";
import type { Nfs3Client } from "../support/nfs3-client.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount, Scratch } from "../support/scratch.ts";
import { startServer } from "../support/server-process.ts";
import { plantAll, testAll } from "./list.ts";
import { nfs3FrontEnd } from "./nfs3-front-end.ts";

const skip = needs("root", "mkfifo") || cannotMount("ext4");
let made: Scratch | undefined;
let client: Nfs3Client;
let root: Buffer;

before(async () => {
	if (skip !== false) return;
	made = new Scratch();
	const disk = made.mount("ext4", "layers", 128);
	const [lower, upper] = ["layers/lower", "layers/upper"].map((name) => (made as Scratch).folder(name)) as [string, string];
	plantAll(lower, upper);
	const server = await startServer(made, {
		lowers: [lower],
		upper,
		work: `${disk}/work`,
		args: ["--async", "--state-dir", `${disk}/state`],
	});
	client = await server.client();
	root = await client.root();
});
after(async () => {
	client?.close();
	await made?.close();
});

testAll(() => nfs3FrontEnd(client, root), skip);
