// What a server tells its keeper, a line of JSON each, and what a later server is told of an earlier one.

/** The layers are open, and the mount may be made. */
export interface ServerOpened {
	readonly kind: "opened";
	/** The name of the export, which the mount table shows. */
	readonly source: string;
	/** Lowers and data lowers: as they were named, and without symbolic links. */
	readonly layers: readonly { readonly path: string; readonly real: string }[];
	/** Folders that the server writes to, without symbolic links. */
	readonly own: readonly string[];
	/** The set of changes, and its folder; null: the changes lie where the user says, or there are none. */
	readonly set: { readonly name: string; readonly folder: string } | null;
}

/** `ready`: it serves the mount; `stop`: it was told to end, or its mount has ended. */
export type ServerMessage = ServerOpened | { readonly kind: "ready" | "stop" };

/** What a server is told that goes on where another one was killed. */
export interface Again {
	/** The set of changes that the first server made or found. */
	readonly set: string | null;
	/** Directories that the mount covers, by their paths: the descriptor of each, and its path without symbolic links. */
	readonly held: Readonly<Record<string, { readonly fd: number; readonly real: string }>>;
}
