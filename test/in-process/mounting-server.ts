// A process that mounts overlays by FUSE, one after the other, as it is told by lines of JSON: for tests that ask the kernel in their own thread.

import { createInterface } from "node:readline";
import { KEPT_BYTES, NODE_BYTES, NODES_AT } from "../../src/fuse/kept-layout.ts";
import { FuseSession } from "../../src/fuse/session.ts";
import type { AddressedBytes } from "../../src/linux/memory.ts";
import { mountAt } from "../../src/linux/mount.ts";
import { close, O, openDevice } from "../../src/linux/open.ts";
import { makeSharedMemory, mapShared } from "../../src/linux/shared-memory.ts";
import type { OpenOptions } from "../../src/overlay/opening/open-options.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import type { Overlay } from "../../src/overlay/operations/overlay.ts";
import { workInline } from "../differential/inline-offload.ts";

export interface MountOrder {
	readonly kind: "mount";
	readonly at: string;
	readonly options: OpenOptions;
	readonly usesThreads: boolean;
}

/** "restart": another server takes the mount over; "end": it is unmounted. */
export type Order = MountOrder | { readonly kind: "restart" | "end" };

interface Serving {
	readonly order: MountOrder;
	readonly descriptor: number;
	readonly overlay: Overlay;
	readonly session: FuseSession;
}

/** One for all mounts: it is cleaned when one ends. */
const kept = mapShared(makeSharedMemory("holdfast-test", KEPT_BYTES), KEPT_BYTES) as AddressedBytes;
const MS_NOATIME = 1024;
const NODES_CLEANED = 4096;

function serve(order: MountOrder, descriptor: number): Serving {
	const opened = openOverlay({ ...order.options, purpose: "serve", restoresHolds: true });
	const overlay = order.usesThreads ? opened.overlay : workInline(opened.overlay);
	const session = new FuseSession({ device: { descriptor, kept }, overlay, actsAs: opened.actsAs, isShared: false });
	session.start();
	overlay.endOfRestore();
	return { order, descriptor, overlay, session };
}

function mount(order: MountOrder): Serving {
	const descriptor = openDevice("/dev/fuse", O.rdwr);
	if (descriptor < 0) throw new Error(`/dev/fuse: ${descriptor}`);
	const data = `fd=${descriptor},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other`;
	const status = mountAt("holdfast", order.at, "fuse.holdfast", MS_NOATIME, data);
	if (status < 0) throw new Error(`mount: ${status}`);
	return serve(order, descriptor);
}

let serving: Serving | null = null;
for await (const line of createInterface(process.stdin)) {
	const order = JSON.parse(line) as Order;
	try {
		if (order.kind === "mount") serving = mount(order);
		else if (serving !== null) {
			if (order.kind === "end") await serving.session.ended;
			await serving.session.close();
			await serving.overlay.close();
			if (order.kind === "restart") serving = serve(serving.order, serving.descriptor);
			else {
				close(serving.descriptor);
				kept.bytes.fill(0, 0, 4096);
				kept.bytes.fill(0, NODES_AT, NODES_AT + NODES_CLEANED * NODE_BYTES);
				serving = null;
			}
		}
		console.log("done");
	} catch (error) {
		console.log(JSON.stringify((error as Error).stack));
	}
}
