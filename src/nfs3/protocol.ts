/** The numbers of RFC 1813, NFS version 3. */
import type { ContentRight } from "../vfs/operations.ts";

export const NFS_PROGRAM = 100003;
export const NFS_VERSION_3 = 3;

/** Section 2.4: a file handle is at most this long. */
export const HANDLE_BYTES_MAX = 64;
export const COOKIE_VERIFIER_BYTES = 8;
export const CREATE_VERIFIER_BYTES = 8;
export const WRITE_VERIFIER_BYTES = 8;

/** Section 3.3.7, stable_how. */
export const StableHow = { unstable: 0, dataSync: 1, fileSync: 2 } as const;

/** Section 3.3.8, createmode3. */
export const CreateMode = { unchecked: 0, guarded: 1, exclusive: 2 } as const;

/** Section 2.6, time_how. */
export const TimeHow = { keep: 0, serverTime: 1, clientTime: 2 } as const;

/** Section 3.3.19, properties. */
export const FsinfoProperty = { link: 1, symlink: 2, homogeneous: 8, canSetTime: 16 } as const;

/** The most that one READDIR or READDIRPLUS answers. */
export const LISTING_BYTES_MAX = 1024 * 1024;
/** What clients are told to ask for in one READDIR. */
export const LISTING_BYTES_PREFERRED = 64 * 1024;
export const TRANSFER_MULTIPLE_BYTES = 4096;

/** No offset or size beyond 2^53 - 1 is handled: their high half is at most this. */
export const SAFE_HI_MAX = 0x1fffff;

/** There is no open in NFSv3: the owner may go on reading and writing what they have open, whatever its mode is now (RFC 1813 section 4.4). */
export const CONTENT_RIGHT: ContentRight = "owner";
