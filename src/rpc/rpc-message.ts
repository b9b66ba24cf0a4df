/** The numbers of RFC 5531. */
export const RPC_VERSION = 2;

export const MessageType = { call: 0, reply: 1 } as const;
export const ReplyStatus = { accepted: 0, denied: 1 } as const;
export const RejectStatus = { rpcMismatch: 0, authError: 1 } as const;

/** RFC 5531 section 9, accept_stat. */
export const AcceptStatus = {
	success: 0,
	programUnavailable: 1,
	programMismatch: 2,
	procedureUnavailable: 3,
	garbageArguments: 4,
	systemError: 5,
} as const;
export type AcceptStatus = (typeof AcceptStatus)[keyof typeof AcceptStatus];

/** RFC 5531 section 9, auth_stat: the ones this server answers. */
export const AuthStatus = {
	badCredential: 1,
	rejectedCredential: 2,
	badVerifier: 3,
	tooWeak: 5,
} as const;
export type AuthStatus = (typeof AuthStatus)[keyof typeof AuthStatus];

/** RFC 5531 section 8.2: the flavors that are understood. */
export const AuthFlavor = { none: 0, sys: 1 } as const;

/** RFC 5531 section 8.2: a credential or verifier body is at most this long. */
export const AUTH_BODY_BYTES_MAX = 400;

/** RFC 5531 appendix A, authsys_parms: the name of the machine, and groups beside the first. */
export const AUTH_SYS_NAME_BYTES_MAX = 255;
export const AUTH_SYS_GIDS_MAX = 16;
