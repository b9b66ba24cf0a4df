// Shows where the time of a CPU profile went, by function: on its own, and with all that it called. See docs/development.md.
//
//   npm run profile -- FILE.cpuprofile [--lines 30]

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({ options: { lines: { type: "string", default: "30" } }, allowPositionals: true });
if (positionals.length !== 1) {
	console.error("profile: give one file that node --cpu-prof has written");
	process.exit(2);
}
const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(positionals[0], "utf8"));
const byId = new Map(nodes.map((node) => [node.id, node]));
const callers = new Map(nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node.id])));
const own = new Map();
const withCalled = new Map();
for (const [i, sample] of samples.entries()) {
	const took = timeDeltas[i];
	add(own, nameOf(sample), took);
	const seen = new Set();
	for (let id = sample; id !== undefined; id = callers.get(id)) seen.add(nameOf(id));
	for (const name of seen) add(withCalled, name, took);
}
show("milliseconds in the function itself", own);
show("milliseconds with what it called", withCalled);

function nameOf(id) {
	const { functionName, url, lineNumber } = byId.get(id).callFrame;
	return `${functionName || "(anonymous)"} ${url.split("/").slice(-2).join("/")}:${lineNumber + 1}`;
}

function add(times, name, took) {
	times.set(name, (times.get(name) ?? 0) + took);
}

function show(title, times) {
	console.log(`${title}:`);
	const slowest = [...times].sort((a, b) => b[1] - a[1]).slice(0, Number(values.lines));
	for (const [name, microseconds] of slowest) console.log(`${(microseconds / 1000).toFixed(0).padStart(8)}  ${name}`);
}
