// Signals that must not end the program, listened to before anything else is loaded.

/** Set by the launcher where SIGHUP was ignored when it started, as by nohup(1): Node.js takes that back. */
const NOHUP = "HOLDFAST_NOHUP";

/**
 * Whether this process goes on when its terminal is closed. A server does, whatever started it, since clients have it mounted; other commands
 * do under nohup(1).
 */
export const outlivesTerminal = ["serve", "mount"].includes(process.argv[2]) || process.env[NOHUP] === "1";

/** What asks a command to end that takes away first what it has begun. */
export const ENDING_SIGNALS: readonly NodeJS.Signals[] = outlivesTerminal ? ["SIGINT", "SIGTERM"] : ["SIGINT", "SIGTERM", "SIGHUP"];

// SIGUSR1 opens Node's inspector, and SIGUSR2 ends a process, unless somebody listens
for (const signal of ["SIGUSR1", "SIGUSR2", ...(outlivesTerminal ? (["SIGHUP"] as const) : [])] as const) process.on(signal, () => {});
