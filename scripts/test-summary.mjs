// What a run of tests comes to, in few lines that stand at its very end: what ran, and each file that failed with its failed tests.

import { appendFileSync } from "node:fs";

/** Of one file and of one run; the output has the rest. */
const TESTS_MAX = 10;
const LINES_MAX = 200;

/** `results` are of test-file.mjs, each with its `file`; `broken` is what else is wrong, in sentences. */
export function summaryOf({ title, seconds, results, fileCount, total, broken }) {
	const bad = results.filter(({ failure }) => failure !== null);
	const lines = bad.flatMap(({ file, failure, failed }) => [
		`  ✖ ${file}: ${failure}`,
		...failed.slice(0, TESTS_MAX).flatMap(({ name, error }) => [`    ✖ ${name}`, ...error.map((line) => `        ${line}`)]),
		...(failed.length > TESTS_MAX ? [`    ... and ${failed.length - TESTS_MAX} more failed tests`] : []),
	]);
	const cut =
		lines.length > LINES_MAX ? [...bad.map(({ file, failure }) => `  ✖ ${file}: ${failure}`), "  the first of it:", ...lines] : lines;
	const isRight = bad.length === 0 && broken.length === 0 && total.fail + total.cancelled === 0;
	const counts = `${total.tests} tests, ${total.pass} passed, ${total.fail + total.cancelled} failed, ${total.skipped} skipped`;
	return [
		`${isRight ? "passed" : "FAILED"}: ${title}: ${results.length} of ${fileCount} files, ${counts}, ${seconds.toFixed(0)} s`,
		...broken.map((what) => `  ✖ ${what}`),
		...cut.slice(0, LINES_MAX),
		...(cut.length > LINES_MAX ? ["  ... (the rest is in the output above)"] : []),
		"",
	].join("\n");
}

/** For whoever runs several parts and prints what they came to at the end: `.ci/run`. */
export function keepSummary(text) {
	const path = process.env.HOLDFAST_TEST_SUMMARY;
	if (path !== undefined && path !== "") appendFileSync(path, text);
}
