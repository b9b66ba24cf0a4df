import { units } from "./cases.mjs";

/** Ratios of medians, and whether a target was met: "yes", "no", or why that cannot be said. */

export function ratioOf(ours, theirs) {
	if (!ours || !theirs || theirs.median === 0) return null;
	return ours.median / theirs.median;
}

export function verdictOf({ target, unit, servers: { holdfast, ganesha } }) {
	if (target === null) return "";
	if (holdfast.value === null) return "no figure";
	if (holdfast.failure !== null) return "no: failures";
	if (target.most !== undefined) return holdfast.value.median <= target.most ? "yes" : "no";
	const ratio = ratioOf(holdfast.value, ganesha.value);
	if (ratio === null) return "no figure";
	if (units[unit].better === "more" ? ratio < target.ratio : ratio > target.ratio) return "no";
	if (target.cpu !== undefined && !(ratioOf(holdfast.cpu, ganesha.cpu) <= target.cpu)) return "no: CPU";
	return "yes";
}
