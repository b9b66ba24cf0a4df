/** A mistake that one sentence explains: printed on stderr, exit status 1 (2 for a wrong use of the command line). */
export class UserError extends Error {
	readonly exitCode: number;

	constructor(message: string, exitCode = 1) {
		super(message);
		this.name = "UserError";
		this.exitCode = exitCode;
	}
}
