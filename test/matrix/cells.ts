import { readFileSync } from "node:fs";
import { generator } from "../crash/actor.ts";
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
	/** Why it cannot exist; null where it can. */
	readonly impossible: string | null;
}

/** The whole matrix. */
export function allCells(): CellOfMatrix[] {
	return [...kernelCells(), ...portableCells()];
}

/** Of kernel handles. */
export function kernelCells(): CellOfMatrix[] {
	return cellsOf(STACKS, FAULTS);
}

export function portableCells(): CellOfMatrix[] {
	return cellsOf(PORTABLE_STACKS, PORTABLE_FAULTS);
}

/** Why images of a stack cannot be made and mounted here. */
export function cannotImage({ image }: Stack): string | null {
	if (image === null) return null;
	const maker = image === "squashfs" ? "mksquashfs" : "mkfs.erofs";
	if (missing(maker)) return `${maker} is missing`;
	const isKnown = readFileSync("/proc/filesystems", "latin1").split(/\s+/).includes(image);
	return isKnown ? null : `this kernel has no ${image}`;
}

function cellsOf(stacks: readonly Stack[], faults: readonly Fault[]): CellOfMatrix[] {
	return stacks.flatMap((stack) =>
		KINDS.flatMap((kind) =>
			EVENTS.flatMap((event) =>
				faults.map((fault) => ({
					name: `${kind.name}/${event.name}/${fault.name}/${stack.name}`,
					kind,
					event,
					fault,
					stack,
					impossible: cannotImage(stack) ?? kind.impossible(stack) ?? event.impossible(kind, stack) ?? fault.impossible(kind, event, stack),
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
