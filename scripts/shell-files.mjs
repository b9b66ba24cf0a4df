// Writes what packages have for shells and for man(1), of the program that was built: dist/completion and dist/man.

import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const dist = join(dirname(fileURLToPath(import.meta.url)), "../dist");
const holdfast = (...args) => execFileSync(process.execPath, [join(dist, "holdfast.js"), ...args]);

for (const folder of ["man", "completion"]) {
	rmSync(join(dist, folder), { recursive: true, force: true });
	mkdirSync(join(dist, folder), { recursive: true });
}
holdfast("manual-pages", join(dist, "man"));
for (const [shell, name] of [
	["bash", "holdfast"],
	["zsh", "_holdfast"],
	["fish", "holdfast.fish"],
])
	writeFileSync(join(dist, "completion", name), holdfast("completion", shell));
