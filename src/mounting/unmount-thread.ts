// A thread that ends a mount, and may wait for its server meanwhile.

import { parentPort, workerData } from "node:worker_threads";
import { unmountAnyhow } from "./ways.ts";

const { point, isLazy } = workerData as { readonly point: string; readonly isLazy: boolean };
parentPort?.postMessage(await unmountAnyhow(point, isLazy));
