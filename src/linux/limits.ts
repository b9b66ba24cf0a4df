// The limit of open descriptors: getrlimit(2) and setrlimit(2).

import { arenaAddress, arenaView, declare, PLACE, result } from "./libc.ts";

const getrlimitCall = declare("getrlimit", "int", ["int", "pointer"]);
const setrlimitCall = declare("setrlimit", "int", ["int", "pointer"]);
const RLIMIT_NOFILE = 7;

/** Raises the soft limit of open descriptors to the hard one, and returns it (at most 2^31). */
export function raiseDescriptorLimit(): number {
	const at = PLACE.ioctl;
	const status = result(getrlimitCall(RLIMIT_NOFILE, arenaAddress + at));
	if (status < 0) return status;
	const word = (place: number) => Math.min(arenaView.getUint32(place + 4, true) * 0x100000000 + arenaView.getUint32(place, true), 2 ** 31);
	const soft = word(at);
	const hard = word(at + 8);
	if (soft >= hard) return soft;
	arenaView.setUint32(at, arenaView.getUint32(at + 8, true), true);
	arenaView.setUint32(at + 4, arenaView.getUint32(at + 12, true), true);
	return setrlimitCall(RLIMIT_NOFILE, arenaAddress + at) === 0 ? hard : soft;
}
