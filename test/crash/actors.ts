import { linkSync } from "node:fs";
import { join } from "node:path";
import { plant } from "../support/lower-tree.ts";

/** The folder of an actor in two lowers: with hard links, one of them `outside` of it, and with names that both layers have. */
export function plantFolder([top, bottom]: readonly string[], outside: string, name: string): void {
	const folder = join(top, name);
	plant(folder, { file: "file", "dir/file": "dir file", "dir/sub/one": "one", "dir/one": "three names", "sub/": "", n7: { link: "x" } });
	linkSync(join(folder, "dir/one"), join(folder, "two"));
	linkSync(join(folder, "dir/one"), join(outside, name));
	plant(join(bottom, name), { "dir/two": "below", "sub/three": "below", "n8/n9/n10": "deep" });
}
