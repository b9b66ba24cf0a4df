/**
 * Real work by the Linux NFS client in a virtual machine, in seconds. Each is a part of bench/vm/work.sh; `after` is the part that it needs
 * done before. "knfsd" is the kernel's server over the kernel's overlayfs, inside the machine.
 */

export const parts = [
	{ part: "git-clone" },
	{ part: "tar-x" },
	{ part: "make" },
	{ part: "rm-rf" },
	{ part: "small-files-create" },
	{ part: "small-files-stat", after: "small-files-create" },
	{ part: "small-files-remove", after: "small-files-create" },
];

/** Those that are done by version 4.1 too. */
const over41 = ["git-clone", "tar-x", "small-files-create", "small-files-stat", "small-files-remove"];

export function vmCases() {
	const entry = { stage: "vm", unit: "s", mostRounds: 2, isWhole: true };
	return [
		...parts.map(({ part }) => ({ ...entry, name: nameOf(part), part, servers: ["holdfast", "ganesha", "knfsd"] })),
		...over41.map((part) => ({
			...entry,
			name: `${nameOf(part)}/v4.1`,
			part,
			servers: ["holdfast-4.1", "ganesha-4.1", "holdfast"],
			target: { own: 1.2 },
		})),
	];
}

/** The parts that were asked for, and those that they need, in order. */
export function partsToRun({ only }) {
	const asked = vmCases().filter(({ name }) => only.length === 0 || only.some((word) => name.includes(word)));
	const chosen = parts.filter(({ part }) => asked.some((each) => each.part === part));
	return parts.map(({ part }) => part).filter((part) => chosen.some((each) => each.part === part || each.after === part));
}

function nameOf(part) {
	return `vm/${part}`;
}
