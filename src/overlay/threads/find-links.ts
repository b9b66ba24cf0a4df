// The job that walks a lower for the names that lead to one file.

import { LayerError } from "../../layer/layer-error.ts";
import { type FoundLinkNames, findLinkNames } from "../../layer/link-names.ts";

export interface LinksRequest {
	/** Of the lower. */
	readonly root: number;
	readonly path: string;
	/** Where they are kept. */
	readonly folder: string;
	/** Directories that were walked, for who waits: shared memory. */
	readonly seen: Int32Array;
}

/** What was found, or the sentence that says why not. */
export type LinksResult = { readonly links: FoundLinkNames } | { readonly failure: string };

export function findLinks({ root, path, folder, seen }: LinksRequest): LinksResult {
	const count = (directories: number) => {
		Atomics.store(seen, 0, directories);
	};
	try {
		return { links: findLinkNames({ root, path }, folder, count) };
	} catch (error) {
		if (error instanceof LayerError) return { failure: error.message };
		throw error;
	}
}
