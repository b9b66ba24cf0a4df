import { units } from "./cases.mjs";

/** Ratios of medians, and whether a target was met: "yes", "no", or why that cannot be said. */

export function ratioOf(ours, theirs) {
	if (!ours || !theirs || theirs.median === 0) return null;
	return ours.median / theirs.median;
}

export function verdictOf({ target, unit, servers }) {
	if (target === null) return "";
	const holdfast = servers["holdfast-4.1"] ?? servers["holdfast-mount"] ?? servers.holdfast;
	const ganesha = servers["ganesha-4.1"] ?? servers.ganesha;
	if (holdfast.value === null) return "no figure";
	if (holdfast.failure !== null) return "no: failures";
	if (target.most !== undefined) return holdfast.value.median <= target.most ? "yes" : "no";
	for (const [peer, aim] of [
		[ganesha, target.ratio],
		[servers.holdfast, target.own],
		[servers["fuse-overlayfs"], target.mount],
	]) {
		if (aim === undefined) continue;
		const ratio = ratioOf(holdfast.value, peer.value);
		if (ratio === null) return "no figure";
		if (units[unit].better === "more" ? ratio < aim : ratio > aim) return peer === servers.holdfast ? "no: version 3" : "no";
	}
	if (target.cpu !== undefined && !(ratioOf(holdfast.cpu, ganesha.cpu) <= target.cpu)) return "no: CPU";
	return "yes";
}
