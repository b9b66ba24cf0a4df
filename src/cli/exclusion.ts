// The options --exclude and --exclude-from: paths that are left out, by patterns as in .gitignore.

import { readFileSync } from "node:fs";
import type { Command } from "commander";
import type { Ignore } from "ignore";
import { whyNot } from "../linux/errno.ts";
import { collect } from "./collect.ts";
import { UserError } from "./user-error.ts";

export interface ExclusionArguments {
	readonly exclude: readonly string[];
	readonly excludeFrom: readonly string[];
}

export function addExclusion(command: Command): Command {
	return command
		.option(
			"--exclude <pattern>",
			"leave out what fits, as a line of .gitignore: node_modules/, *.o, !keep.o; give it again for more",
			collect,
			[],
		)
		.option("--exclude-from <file>", "leave out what fits to a line of this file, as of .gitignore", collect, []);
}

/** It remembers every path that it was asked about: after so many it begins anew. */
const ASKED_MAX = 65_536;

/** Which paths are left out. */
export class Exclusion {
	readonly #makeMatcher: (() => Ignore) | null;
	#matcher: Ignore | null = null;
	#asked = 0;

	private constructor(makeMatcher: (() => Ignore) | null) {
		this.#makeMatcher = makeMatcher;
	}

	/** The lines of files come first, so that a pattern of the command line has the last word. UserError: a file cannot be read. */
	static async of({ exclude, excludeFrom }: ExclusionArguments): Promise<Exclusion> {
		const lines = [...excludeFrom.flatMap(readPatterns), ...exclude];
		if (lines.length === 0) return new Exclusion(null);
		// no other command needs it
		const { default: ignore } = await import("ignore");
		return new Exclusion(() => ignore({ ignorecase: false }).add(lines));
	}

	/** Also by a directory above it. */
	isExcluded(path: Buffer, isDirectory: boolean): boolean {
		if (this.#makeMatcher === null || path.length === 0) return false;
		if (this.#matcher === null || this.#asked++ === ASKED_MAX) {
			this.#matcher = this.#makeMatcher();
			this.#asked = 0;
		}
		return this.#matcher.ignores(isDirectory ? `${path}/` : `${path}`);
	}
}

function readPatterns(file: string): string[] {
	try {
		return readFileSync(file, "utf8").split(/\r?\n/);
	} catch (error) {
		throw new UserError(`Cannot read the patterns in ${file}: ${whyNot((error as NodeJS.ErrnoException).errno ?? 0, file)}.`);
	}
}
