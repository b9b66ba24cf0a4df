// Why this machine cannot run the program: no GNU C library, no package koffi, or none for its processor.

/** The message is a sentence for the user. */
export class UnfitMachineError extends Error {}

/** What is known of a machine where koffi, or the C library, could not be loaded. */
export interface Machine {
	/** Of the system and its processor, as Node.js names them. */
	readonly platform: string;
	readonly arch: string;
	/** Version of the GNU C library that Node.js runs with; undefined with another one. */
	readonly glibc: string | undefined;
}

export function thisMachine(): Machine {
	const { platform, arch, report } = process;
	// to look the addresses of the machine up takes long
	Object.assign(report, { excludeNetwork: true });
	const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
	return { platform, arch, glibc: header?.glibcVersionRuntime };
}

/** The sentence for `error`, which loading koffi or a C library has thrown. */
export function unfitMachine(error: unknown, machine: Machine): UnfitMachineError {
	const { platform, arch, glibc } = machine;
	const { code, message } = error as NodeJS.ErrnoException;
	const because =
		platform !== "linux"
			? `The server runs on Linux alone, and this is ${platform}; clients may be any that mount NFS.`
			: glibc === undefined
				? "The server needs the GNU C library, and this Node.js runs with another one (musl, as on Alpine): take a Node.js of Debian or the like."
				: code === "MODULE_NOT_FOUND"
					? "The package koffi is missing: install holdfast again, with its dependencies."
					: `The package koffi cannot be loaded on this machine (linux, ${arch}, glibc ${glibc}: ${firstLine(message)}): install holdfast again, without --omit=optional.`;
	return new UnfitMachineError(because);
}

function firstLine(text: string): string {
	return text.split("\n", 1)[0].replace(/[\p{Cc}.]+$/u, "");
}
