// A process that serves a FUSE mount whose descriptors it was given, for tests that keep the mount themselves.

import { subscribe } from "node:diagnostics_channel";
import { createInterface } from "node:readline";
import { KEPT_BYTES } from "../../src/fuse/kept-layout.ts";
import { mapShared } from "../../src/linux/shared-memory.ts";
import { openExports } from "../../src/server/serve-exports.ts";
import type { FuseServerOptions } from "./fuse-mount.ts";

/** Where the descriptors of /dev/fuse and of the kept memory are. */
const [FUSE, KEPT] = [3, 4];

const {
	lowers,
	upper,
	work,
	stateFolder,
	isSync = false,
	nfsPort,
	writesBack = false,
	versions = [3],
} = JSON.parse(process.argv[2]) as FuseServerOptions;
subscribe("holdfast:rpc:failure", (failure) => console.error("failure", failure));
const listen = nfsPort === undefined ? [] : [{ host: "127.0.0.1", port: nfsPort }];
const served = await openExports({
	exports: [{ name: "/", layers: { lowers, upper, work, stateFolder, isSync }, insecure: true }],
	listen,
	isMounted: true,
	writesBack,
	versions,
	stateFolder,
	warn: (sentence) => console.error(sentence),
});
process.chdir("/");
console.log("opened");
createInterface(process.stdin).once("line", async () => {
	const kept = mapShared(KEPT, KEPT_BYTES);
	if (typeof kept === "number") throw new Error(`mmap: ${kept}`);
	const session = served.startFuse({ descriptor: FUSE, kept });
	await served.listen();
	console.log(`ready ${served.server.addressNames.join()}`);
	await session.ended;
	await served.close();
	process.exit(0);
});
