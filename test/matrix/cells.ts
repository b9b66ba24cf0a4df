import { generator } from "../crash/actor.ts";
import { EVENTS, type Event } from "./events.ts";
import { FAULTS, type Fault } from "./faults.ts";
import { KINDS, type Kind } from "./kinds.ts";
import { STACKS, type Stack } from "./stacks.ts";

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
	return STACKS.flatMap((stack) =>
		KINDS.flatMap((kind) =>
			EVENTS.flatMap((event) =>
				FAULTS.map((fault) => ({
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
