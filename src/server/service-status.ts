// Tells the service manager that started the server how it is: ready, alive, stopping. Elsewhere nothing happens.

import { notifyAt } from "../linux/service-manager.ts";

/** What a server says of itself. */
export interface ServiceStatus {
	/** Clients may come. From now on the manager is told again and again that the server is alive, if it wants to know. */
	ready(sentence: string): void;
	/** The server ends. */
	stopping(): void;
}

/** By $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID, as sd_notify(3) and sd_watchdog_enabled(3) say. */
export function serviceStatus(environment: NodeJS.ProcessEnv = process.env): ServiceStatus {
	const { NOTIFY_SOCKET: address } = environment;
	if (address === undefined || address === "") return { ready() {}, stopping() {} };
	const period = watchdogMilliseconds(environment);
	return {
		ready(sentence) {
			notifyAt(address, `READY=1\nSTATUS=${sentence.replace(/\p{Cc}/gu, "?").slice(0, 500)}`);
			if (period !== null) setInterval(() => notifyAt(address, "WATCHDOG=1"), period / 2).unref();
		},
		stopping() {
			notifyAt(address, "STOPPING=1\nSTATUS=Answering what was taken");
		},
	};
}

/** Within what time the manager wants to hear of this process; null: it does not. */
function watchdogMilliseconds({ WATCHDOG_USEC: microseconds, WATCHDOG_PID: pid }: NodeJS.ProcessEnv): number | null {
	if (pid !== undefined && pid !== String(process.pid)) return null;
	const milliseconds = Number(microseconds ?? Number.NaN) / 1000;
	return milliseconds > 0 && milliseconds < 2 ** 31 ? milliseconds : null;
}
