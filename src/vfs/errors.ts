/**
 * What an operation of the overlay can answer besides success: a closed set. Each front end
 * has one table from these codes to its own, total by the type checker.
 */
export const OVERLAY_ERROR_CODES = [
	"perm",
	"noent",
	"io",
	"nxio",
	"acces",
	"exist",
	"xdev",
	"nodev",
	"notdir",
	"isdir",
	"inval",
	"fbig",
	"nospc",
	"rofs",
	"mlink",
	"nametoolong",
	"notempty",
	"dquot",
	"loop",
	"busy",
	"stale",
	"badhandle",
	"notsync",
	"notsupp",
	"toosmall",
	"badtype",
	"tryagain",
	"noattr",
] as const;

export type OverlayErrorCode = (typeof OVERLAY_ERROR_CODES)[number];

/** The one error that the overlay throws for what a caller can cause or must be told. */
export class OverlayError extends Error {
	readonly code: OverlayErrorCode;
	/** Of the system call that failed; 0: it was none. */
	readonly errno: number;

	constructor(code: OverlayErrorCode, message: string, errno = 0) {
		super(message);
		this.name = "OverlayError";
		this.code = code;
		this.errno = errno;
	}
}

/**
 * Thrown when a request cannot be answered without waiting. Nothing visible has been changed by the pass that threw it:
 * the front end waits for `ready` and runs the request again from its start.
 */
export class Pending {
	readonly ready: Promise<void>;

	constructor(ready: Promise<void>) {
		this.ready = ready;
	}
}
