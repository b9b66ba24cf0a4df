// What setuid and setgid come to when somebody without privilege changes content (FUSE_HANDLE_KILLPRIV_V2).

const [S_ISUID, S_ISGID, S_IXGRP] = [0o4000, 0o2000, 0o0010];

/** The mode of a file whose content somebody has changed who may not keep its privileges. */
export function withoutPrivilege(mode: number): number {
	return mode & ~S_ISUID & ((mode & S_IXGRP) !== 0 ? ~S_ISGID : ~0);
}
