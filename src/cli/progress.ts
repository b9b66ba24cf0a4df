// The progress line that commands which take long show at a terminal.

const REDRAW_MS = 200;

/** One line that says how far long work is, for a person at a terminal; elsewhere nothing. */
export class ProgressLine {
	readonly #isTerminal = process.stderr.isTTY === true;
	#drawn = 0;

	/** `text` is asked for only when it is time to say something new. */
	show(text: () => string): void {
		if (!this.#isTerminal || Date.now() - this.#drawn < REDRAW_MS) return;
		this.#drawn = Date.now();
		process.stderr.write(`\r\x1b[K${text()}`);
	}

	end(): void {
		if (this.#drawn > 0) process.stderr.write("\r\x1b[K");
	}
}
