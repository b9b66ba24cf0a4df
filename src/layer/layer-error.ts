/** A layer cannot be used as it is. The message says what was tried, what is wrong and what to do. */
export class LayerError extends Error {
	constructor(message: string) {
		super(message);
		this.name = "LayerError";
	}
}

/** A layer cannot be used with kernel handles; with portable ones it might. */
export class UnfitError extends LayerError {
	constructor(message: string) {
		super(message);
		this.name = "UnfitError";
	}
}
