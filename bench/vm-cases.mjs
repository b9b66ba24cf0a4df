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

export function vmCases() {
	return parts.map(({ part }) => ({
		name: nameOf(part),
		part,
		stage: "vm",
		servers: ["holdfast", "ganesha", "knfsd"],
		unit: "s",
		mostRounds: 2,
		isWhole: true,
	}));
}

/** The parts that were asked for, and those that they need, in order. */
export function partsToRun({ only }) {
	const chosen = parts.filter(({ part }) => only.length === 0 || only.some((word) => nameOf(part).includes(word)));
	return parts.map(({ part }) => part).filter((part) => chosen.some((each) => each.part === part || each.after === part));
}

function nameOf(part) {
	return `vm/${part}`;
}
