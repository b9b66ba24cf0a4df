/** The bytes are no encoding of the type that was to be read (RFC 4506): cut short, or a length or value beyond its bound. */
export class XdrError extends Error {
	constructor(message: string) {
		super(message);
		this.name = "XdrError";
	}
}
