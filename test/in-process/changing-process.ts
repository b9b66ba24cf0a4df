/** A process for tests: changes "file" of an export for ever, and prints the value of its change attribute before, and after each change. */

import { writeSync } from "node:fs";
import { join } from "node:path";
import { alterStats } from "../../src/linux/stat.ts";
import { openOverlay } from "../../src/overlay/opening/open-overlay.ts";
import { untilReady } from "../../src/overlay/operations/until-ready.ts";
import { ROOT, walk } from "./walk.ts";

const TICK_NSEC = 4_000_000;
const base = process.argv[2];

alterStats((stat) => {
	stat.ctimeNsec -= stat.ctimeNsec % TICK_NSEC;
});

const { overlay } = openOverlay({
	lowers: [join(base, "lower")],
	upper: join(base, "upper"),
	stateFolder: join(base, "state"),
	isSync: false,
	purpose: "serve",
});

function print(): void {
	const { changeHi, changeLo } = overlay.getattr(walk(overlay, "file"));
	const line = `${(BigInt(changeHi) << 32n) | BigInt(changeLo)}\n`;
	for (;;) {
		try {
			writeSync(1, line);
			return;
		} catch (error) {
			// whoever reads is slower
			if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
		}
	}
}

print();
for (let i = 0; ; i++) {
	await untilReady(() => overlay.write(walk(overlay, "file"), ROOT, i % 4096, Buffer.from("x")));
	print();
}
