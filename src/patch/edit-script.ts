// Which lines of a text were removed and added, by Myers' greedy algorithm (1986), with a bound on time and memory.

/** Lines at [at, at + count) of the old text give way to those at [newAt, newAt + newCount) of the new one. */
export interface Edit {
	readonly at: number;
	readonly count: number;
	readonly newAt: number;
	readonly newCount: number;
}

/** Lines that differ at most: beyond this all between the first and the last difference counts as replaced. Time and memory go with its square. */
export const DIFFERENCES_MAX = 2000;

/** The edits from one text to another, in order; lines are equal where their numbers are. */
export function editsBetween(old: Uint32Array, now: Uint32Array, differencesMax = DIFFERENCES_MAX): Edit[] {
	let start = 0;
	while (start < old.length && start < now.length && old[start] === now[start]) start++;
	let [oldEnd, newEnd] = [old.length, now.length];
	while (oldEnd > start && newEnd > start && old[oldEnd - 1] === now[newEnd - 1]) {
		oldEnd--;
		newEnd--;
	}
	if (start === oldEnd && start === newEnd) return [];
	const whole = { at: start, count: oldEnd - start, newAt: start, newCount: newEnd - start };
	if (whole.count === 0 || whole.newCount === 0) return [whole];
	const edits = search(old.subarray(start, oldEnd), now.subarray(start, newEnd), differencesMax);
	if (edits === null) return [whole];
	return edits.map((edit) => ({ ...edit, at: edit.at + start, newAt: edit.newAt + start }));
}

/** Null: there are too many differences. */
function search(old: Uint32Array, now: Uint32Array, differencesMax: number): Edit[] | null {
	const most = Math.min(old.length + now.length, differencesMax);
	// of each diagonal k = x - y how far a path with d differences comes, as x
	const reached = new Int32Array(2 * most + 3);
	const middle = most + 1;
	const trace: Int32Array[] = [];
	for (let d = 0; d <= most; d++) {
		trace.push(reached.slice(middle - d - 1, middle + d + 2));
		for (let k = -d; k <= d; k += 2) {
			const isDown = k === -d || (k !== d && reached[middle + k - 1] < reached[middle + k + 1]);
			let x = isDown ? reached[middle + k + 1] : reached[middle + k - 1] + 1;
			let y = x - k;
			while (x < old.length && y < now.length && old[x] === now[y]) {
				x++;
				y++;
			}
			reached[middle + k] = x;
			if (x >= old.length && y >= now.length) return editsOf(trace, old.length, now.length);
		}
	}
	return null;
}

/** Goes back from the end: `trace[d]` has what was reached before the d-th difference, from diagonal -d-1 on. */
function editsOf(trace: readonly Int32Array[], oldLength: number, newLength: number): Edit[] {
	const edits: { at: number; count: number; newAt: number; newCount: number }[] = [];
	let [x, y] = [oldLength, newLength];
	for (let d = trace.length - 1; d > 0; d--) {
		const before = trace[d];
		const k = x - y;
		const at = (diagonal: number) => before[diagonal + d + 1];
		const isDown = k === -d || (k !== d && at(k - 1) < at(k + 1));
		const fromX = isDown ? at(k + 1) : at(k - 1);
		const fromY = fromX - (isDown ? k + 1 : k - 1);
		const last = edits.at(-1);
		const [count, newCount] = isDown ? [0, 1] : [1, 0];
		// the steps come from the last to the first
		if (last !== undefined && last.at === fromX + count && last.newAt === fromY + newCount) {
			last.at = fromX;
			last.newAt = fromY;
			last.count += count;
			last.newCount += newCount;
		} else edits.push({ at: fromX, count, newAt: fromY, newCount });
		[x, y] = [fromX, fromY];
	}
	return edits.reverse();
}
