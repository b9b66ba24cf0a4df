// A reporter of node's test runner that writes down which tests began and ended, and with what error, beside what another reporter
// prints: lines of JSON in the file HOLDFAST_TEST_EVENTS. Each is written at once, since the process may end before the next.

import { openSync, writeSync } from "node:fs";
import { inspect } from "node:util";

/** Of one error. The first lines say what is wrong; the rest of it is in the output of the file. */
const LINES_MAX = 20;
const LINE_MAX = 300;

/** Open from the start, since a test may change who it is. */
const events = openSync(process.env.HOLDFAST_TEST_EVENTS, "a");

export default async function* testEvents(source) {
	const names = [];
	for await (const { type, data } of source) {
		if (type === "test:dequeue") names[data.nesting] = data.name;
		const name = [...names.slice(0, data.nesting), data.name].join(" > ");
		if (type === "test:dequeue") tell({ began: name });
		else if (type === "test:pass") tell({ ended: name });
		else if (type === "test:fail") {
			const { error } = data.details;
			// a test that is to be done does not fail its file, and one of which a part failed tells nothing that the part has not told
			const isTold = data.todo !== undefined || error?.failureType === "subtestsFailed";
			tell({ ended: name, ...(isTold ? {} : { error: linesOf(error?.cause ?? error) }) });
		}
	}
	yield "";
}

function tell(event) {
	writeSync(events, `${JSON.stringify(event)}\n`);
}

function linesOf(error) {
	const text = error instanceof Error ? inspect(error) : String(error);
	const lines = text.split("\n").filter((line) => line.trim() !== "" && !/^ +at .*\bnode:/.test(line));
	return lines.slice(0, LINES_MAX).map((line) => (line.length > LINE_MAX ? `${line.slice(0, LINE_MAX)}...` : line));
}
