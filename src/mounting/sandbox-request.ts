// What a sandbox is to be like: its views, and what can be written, seen and reached beside them.

/** Paths are absolute and without symbolic links. */
export interface SandboxRequest {
	/** Directories over which a mount of ours is made, in the order in which their descriptors come. */
	readonly views: readonly string[];
	/** What can be written as outside. */
	readonly writable: readonly string[];
	/** Directories that are empty at the start, and go with the sandbox. */
	readonly private: readonly string[];
	/** Directories that are seen empty, and files that are. */
	readonly hidden: readonly string[];
	/** Cannot be written even within what is writable. */
	readonly closed: readonly string[];
}

export function isSameOrBelow(path: string, folder: string): boolean {
	return folder === "/" || path === folder || path.startsWith(`${folder}/`);
}
