// The progress line that commands which take long show at a terminal.

import { isAtTerminal, redraw } from "./print.ts";

const REDRAW_MS = 200;

/** One line that says how far long work is, for a person at a terminal; elsewhere nothing. */
export class ProgressLine {
	#drawn = 0;

	/** `text` is asked for only when it is time to say something new. */
	show(text: () => string): void {
		if (!isAtTerminal || Date.now() - this.#drawn < REDRAW_MS) return;
		this.#drawn = Date.now();
		redraw(text());
	}

	end(): void {
		if (this.#drawn > 0) redraw("");
	}
}
