import { existsSync, readFileSync } from "node:fs";
import { generator } from "../support/random.ts";
import { missing } from "../support/requirements.ts";
import { EVENTS, type Event } from "./events.ts";
import { FAULTS, type Fault, PORTABLE_FAULTS } from "./faults.ts";
import { KINDS, type Kind } from "./kinds.ts";
import { PORTABLE_STACKS, STACKS, type Stack } from "./stacks.ts";

export interface CellOfMatrix {
	/** As --cell takes it. */
	readonly name: string;
	readonly kind: Kind;
	readonly event: Event;
	readonly fault: Fault;
	readonly stack: Stack;
	/** Why it cannot exist anywhere; null where it can. */
	readonly impossible: string | null;
}

/** A part of the matrix, with a document of its own. */
export interface Part {
	readonly handles: "kernel" | "portable";
	readonly stacks: readonly Stack[];
	readonly faults: readonly Fault[];
	/** Below the repository. */
	readonly document: string;
}

export const PARTS: readonly Part[] = [
	{ handles: "kernel", stacks: STACKS, faults: FAULTS, document: "docs/matrix.md" },
	{ handles: "portable", stacks: PORTABLE_STACKS, faults: PORTABLE_FAULTS, document: "docs/matrix-portable.md" },
];

/** The whole matrix. */
export function allCells(): CellOfMatrix[] {
	return PARTS.flatMap((part) => cellsOf(part));
}

/** Why images of a stack cannot be made and mounted here. */
export function cannotImage({ image }: Stack): string | null {
	if (image === null) return null;
	const programs = { squashfs: ["mksquashfs"], erofs: ["mkfs.erofs"], fuse: ["bindfs"] }[image];
	const lacking = programs.find(missing);
	if (lacking !== undefined) return `${lacking} is missing`;
	if (image === "fuse" && !existsSync("/dev/fuse")) return "there is no /dev/fuse";
	const isKnown = readFileSync("/proc/filesystems", "latin1").split(/\s+/).includes(image);
	return isKnown ? null : `this kernel has no ${image}`;
}

export function cellsOf({ stacks, faults }: Pick<Part, "stacks" | "faults">): CellOfMatrix[] {
	return stacks.flatMap((stack) =>
		KINDS.flatMap((kind) =>
			EVENTS.flatMap((event) =>
				faults.map((fault) => ({
					name: `${kind.name}/${event.name}/${fault.name}/${stack.name}`,
					kind,
					event,
					fault,
					stack,
					impossible: kind.impossible(stack) ?? event.impossible(kind, stack) ?? fault.impossible(kind, event, stack),
				})),
			),
		),
	);
}

/** In the random order of a seed. */
export function shuffled<T>(items: readonly T[], seed: number): T[] {
	const random = generator(seed);
	const mixed = [...items];
	for (let i = mixed.length - 1; i > 0; i--) {
		const j = random(i + 1);
		[mixed[i], mixed[j]] = [mixed[j], mixed[i]];
	}
	return mixed;
}
