/**
 * Run under strace: decodes forged handles between two system calls that nothing else makes, then handles that are signed for a home
 * which is not there, then one good handle of an object that is not in memory. Prints how many of the first were refused.
 */

import { accessSync } from "node:fs";
import { OverlayError } from "../../../src/vfs/errors.ts";
import { generator } from "../../support/random.ts";
import { forgeriesOf, merge, noise, signedWrongly } from "./forgeries.ts";
import { exportIn, handlesOfAllKinds, plantLowers } from "./objects.ts";

/** strace shows the path. */
function mark(what: string): void {
	try {
		accessSync(`/mark/${what}`);
	} catch {}
}

const [base, seed, twoBits] = process.argv.slice(2) as [string, string, string];
const random = generator(Number(seed));

plantLowers(base);

const { overlay, registry } = exportIn(base).open();
const kinds = await handlesOfAllKinds(overlay);
const handles = [...kinds.values()];
const secret = Buffer.from(registry.keys[0].secret, "hex");
const forged = noise(handles[1] as Buffer, 40, random);

for (const handle of handles) merge(forged, forgeriesOf(handle, handles, Number(twoBits), random));

merge(forged, signedWrongly(handles, secret, random));
const hostile = [...forged.values()].flat();

const { signer } = overlay.engine;
const homeless = Array.from({ length: 100 }, (_, i) => signer.encode(1000 + i, 1, Buffer.alloc(8, i)));

const codes = new Map<string, number>();
function answer(handle: Buffer): string {
	try {
		overlay.beginPass();
		overlay.decode(handle);
		return "found";
	} catch (error) {
		return error instanceof OverlayError ? error.code : `${error}`;
	}
}
function count(handle: Buffer): void {
	const code = answer(handle);
	codes.set(code, (codes.get(code) ?? 0) + 1);
}

// whatever the caches had to close is closed, and the code is compiled
for (const handle of hostile.slice(0, 1000)) answer(handle);

codes.set("badhandle", 0);

mark("forged");

for (const handle of hostile) count(handle);

mark("homeless");

for (const handle of homeless) count(handle);

mark("good");
const good = answer(kinds.get("lower file deep down") as Buffer);

mark("end");

process.stdout.write(`${JSON.stringify({ good, codes: Object.fromEntries(codes), hostile: hostile.length, homeless: homeless.length })}\n`);

await overlay.close();
