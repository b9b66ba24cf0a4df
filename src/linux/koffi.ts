// Loads koffi, through which every call into C goes, and the GNU C library.

import { createRequire } from "node:module";
import type Koffi from "koffi";
import { thisMachine, unfitMachine } from "./unfit-machine.ts";

/** Loaded when this module runs, and not before it, so that a machine without it gets a sentence. UnfitMachineError. */
export const koffi = orUnfit(() => createRequire(import.meta.url)("koffi") as typeof Koffi);

/** A library by its name. UnfitMachineError where there is none. */
export function loadLibrary(name: string): ReturnType<typeof koffi.load> {
	return orUnfit(() => koffi.load(name));
}

function orUnfit<T>(load: () => T): T {
	try {
		return load();
	} catch (error) {
		throw unfitMachine(error, thisMachine());
	}
}
