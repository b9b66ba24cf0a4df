/** A mistake that one sentence explains: printed on stderr, exit status 1 (2 for a wrong use of the command line). */
export class UserError extends Error {
	readonly exitCode: number;
	/** Lines below the sentence: what may be done now, with commands to paste. */
	readonly advice: readonly string[];

	constructor(message: string, exitCode = 1, advice: readonly string[] = []) {
		super(message);
		this.advice = advice;
		this.name = "UserError";
		this.exitCode = exitCode;
	}
}
