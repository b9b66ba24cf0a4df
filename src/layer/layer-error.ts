/** A layer cannot be used as it is. The message says what was tried, what is wrong and what to do. */
export class LayerError extends Error {
	constructor(message: string) {
		super(message);
		this.name = "LayerError";
	}
}

/** A layer cannot be used with kernel handles; with portable ones it might. */
export class UnfitError extends LayerError {
	/** What was tried and what is wrong, without a full stop. */
	readonly problem: string;

	/** `remedy`: whole sentences that say what to do, or nothing. */
	constructor(problem: string, remedy = "") {
		super(remedy === "" ? `${problem}.` : `${problem}. ${remedy}`);
		this.name = "UnfitError";
		this.problem = problem;
	}
}
