// How far long work is, for a person at a terminal, and now and then a line where there is none.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Progress } from "../vfs/progress.ts";
import { complain, isAtTerminal, redraw } from "./print.ts";

/** Work that ends sooner is not spoken of. */
const QUIET_MS = isAtTerminal ? 1000 : 10_000;
const AGAIN_MS = isAtTerminal ? 200 : 10_000;

const CHANNEL = "holdfast:progress";

/** One line that says how far long work is: as its owner shows it, and as is told of it by whoever does it. */
export class ProgressLine {
	#next = Date.now() + QUIET_MS;
	#isDrawn = false;
	readonly #follow = (told: unknown) => {
		const { what, count, unit } = told as Progress;
		this.show(() => `${what}: ${count} ${unit}`);
	};

	constructor() {
		subscribe(CHANNEL, this.#follow);
	}

	/** `text` is asked for only when it is time to say something new. */
	show(text: () => string): void {
		const now = Date.now();
		if (now < this.#next) return;
		this.#next = now + AGAIN_MS;
		if (!isAtTerminal) {
			complain(`${text()}.`);
			return;
		}
		this.#isDrawn = true;
		redraw(text());
	}

	/** Before something else is printed. */
	clear(): void {
		if (this.#isDrawn) redraw("");
		this.#isDrawn = false;
	}

	end(): void {
		unsubscribe(CHANNEL, this.#follow);
		this.clear();
	}
}
