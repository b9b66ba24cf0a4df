/** Medians and their spread over the rounds of a case. */

export function median(numbers) {
	const sorted = [...numbers].sort((a, b) => a - b);
	const middle = sorted.length >> 1;
	return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Of the values that are there; null when none is. */
export function summary(numbers) {
	const known = numbers.filter((number) => number !== undefined && number !== null);
	if (known.length === 0) return null;
	return { median: median(known), min: Math.min(...known), max: Math.max(...known), rounds: known.length };
}
