// Whether a name is another one with one slip of the pen in it.

/** Shorter ones are too near to each other. */
const LENGTH_MIN = 4;

/**
 * Whether `name` becomes `other` when one letter is added, left out, exchanged for another or for its neighbour, or when letters change case. Names that
 * are counted, as `upper1` and `upper2`, or that end in different letters, as `upper-a` and `upper-b`, are meant to differ.
 */
export function isMistyped(name: string, other: string): boolean {
	if (name === other || name.length < LENGTH_MIN || other.length < LENGTH_MIN) return false;
	const [a, b] = [name.toLowerCase(), other.toLowerCase()];
	if (a === b) return true;
	const length = Math.max(a.length, b.length);
	let at = 0;
	while (at < length && a[at] === b[at]) at++;
	const isLetter = (text: string) => /^\p{L}+$/u.test(text);
	if (a.length === b.length) {
		if (!isLetter(a[at]) || !isLetter(b[at])) return false;
		if (a.slice(at, at + 2) === b[at + 1] + b[at] && a.slice(at + 2) === b.slice(at + 2)) return true;
		return at < length - 1 && a.slice(at + 1) === b.slice(at + 1);
	}
	const [short, long] = a.length < b.length ? [a, b] : [b, a];
	if (long.length - short.length !== 1 || !isLetter(long[at])) return false;
	return short.slice(at) === long.slice(at + 1);
}
