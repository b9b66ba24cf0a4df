// The one list of POSIX behaviour, and how it runs through a front end: each case in folders of each kind of ground.

import { join } from "node:path";
import { test } from "node:test";
import { ATTRIBUTE_CASES } from "./attribute-cases.ts";
import type { FrontEnd } from "./front-end.ts";
import { groundOf, type PosixCase, plantCase } from "./ground.ts";
import { NAME_CASES } from "./name-cases.ts";
import { PERMISSION_CASES } from "./permission-cases.ts";

export const POSIX: readonly PosixCase[] = [...NAME_CASES, ...ATTRIBUTE_CASES, ...PERMISSION_CASES];

/** Where the objects of a case lie before it begins. "merged": directories in both layers, all else in the lower one. */
export const GROUNDS = ["lower", "merged", "upper"] as const;
export type GroundKind = (typeof GROUNDS)[number];

/** The folder of a case, in every layer. */
function folderOf(ground: GroundKind, index: number): string {
	return `${ground} ${index}`;
}

/** Plants all cases into two layers, before they are served. */
export function plantAll(lower: string, upper: string, grounds: readonly GroundKind[] = GROUNDS): void {
	for (const [index, { tree }] of POSIX.entries()) {
		for (const ground of grounds) {
			const folder = folderOf(ground, index);
			plantCase(join(ground === "upper" ? upper : lower, folder), tree);
			if (ground === "merged") plantCase(join(upper, folder), tree, true);
		}
	}
}

/** A test for each case on each ground; `frontEnd` is asked for when the first of them runs. */
export function testAll(frontEnd: () => FrontEnd, skip: string | false, grounds: readonly GroundKind[] = GROUNDS): void {
	for (const [index, one] of POSIX.entries()) {
		for (const ground of grounds) {
			test(`${one.name} (${ground})`, { skip }, () => one.run(groundOf(frontEnd(), folderOf(ground, index))));
		}
	}
}
