// Where a user's state is: one folder for each user, whatever the environment of a process says.

import { readFileSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

/** Root's. */
export const SYSTEM_ROOT = "/var/lib/holdfast";

export interface StateRoots {
	/** Where new sets are made. */
	readonly own: string;
	/** Further ones that this user's processes may have used, in other environments or by earlier versions. */
	readonly others: readonly string[];
	/** Of users whose trees may be served as root by mistake, with their names. Empty for ordinary users. */
	readonly ofUsers: readonly UserRoot[];
}

export interface UserRoot {
	readonly user: string;
	readonly root: string;
}

export interface Environment {
	readonly HOME?: string | undefined;
	readonly XDG_STATE_HOME?: string | undefined;
	readonly SUDO_UID?: string | undefined;
}

/** `asked`: what --state-dir says; no other place counts then. */
export function stateRoots(asked: string | undefined, environment: Environment = process.env): StateRoots {
	if (asked !== undefined) return { own: resolve(asked), others: [], ofUsers: [] };
	const named = ownFolder(environment.XDG_STATE_HOME);
	const byHome = ownFolder(environment.HOME, true);
	const byPassword = homeOf(uid());
	const places = [
		named === null ? null : join(named, "holdfast"),
		byHome === null ? null : belowHome(byHome),
		byPassword === null ? null : belowHome(byPassword),
	].filter((place) => place !== null);
	const { HOME = "" } = environment;
	// where it cannot be made, that is said
	const fallback = belowHome(isAbsolute(HOME) ? HOME : "/nonexistent");
	if (isSystemsRoot()) return { own: SYSTEM_ROOT, others: different(places, SYSTEM_ROOT), ofUsers: rootOfCaller(environment) };
	const own = places[0] ?? fallback;
	return { own, others: different(places, own), ofUsers: [] };
}

/** The root of a user who is not this process's. */
export function rootOfUser(id: number): UserRoot | null {
	const entry = passwordEntry(id);
	return entry === null ? null : { user: entry.name, root: belowHome(entry.home) };
}

function rootOfCaller({ SUDO_UID = "" }: Environment): UserRoot[] {
	const id = /^\d{1,10}$/.test(SUDO_UID) ? Number(SUDO_UID) : 0;
	const found = id === 0 ? null : rootOfUser(id);
	return found === null ? [] : [found];
}

function different(places: readonly string[], from: string): string[] {
	return [...new Set(places)].filter((place) => place !== from);
}

function belowHome(home: string): string {
	return join(resolve(home), ".local", "state", "holdfast");
}

function uid(): number {
	return process.geteuid?.() ?? 0;
}

/** Root of the machine or of a container. In the user namespace of an ordinary user, user 0 is that user, and /var/lib is somebody else's. */
function isSystemsRoot(): boolean {
	return uid() === 0 && (statSync("/var/lib", { throwIfNoEntry: false })?.uid ?? 0) === 0;
}

/**
 * A folder that a variable names, if it may be this user's: sudo and cron leave other users' folders there. `mustExist`: what is not there yet is nobody's
 * home.
 */
function ownFolder(path: string | undefined, mustExist = false): string | null {
	if (path === undefined || !isAbsolute(path)) return null;
	try {
		const stat = statSync(path, { throwIfNoEntry: false });
		if (stat === undefined) return mustExist ? null : path;
		return stat.isDirectory() && stat.uid === uid() ? path : null;
	} catch (error) {
		if (["EACCES", "ENOTDIR", "ELOOP", "ENAMETOOLONG"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
		// in another place there would be an empty set
		throw error;
	}
}

/** User 0 of an ordinary user's namespace has the home of that user, not root's. */
function homeOf(id: number): string | null {
	const outside = outsideOf(id);
	const home = outside === id || isSystemsRoot() ? null : (passwordEntry(outside)?.home ?? null);
	try {
		return home ?? (userInfo().homedir || null);
	} catch {
		return passwordEntry(id)?.home ?? null;
	}
}

/** What a user of this user namespace is in the namespace around it (user_namespaces(7)). */
function outsideOf(id: number): number {
	try {
		for (const line of readFileSync("/proc/self/uid_map", "latin1").split("\n")) {
			const [inside, outside, count] = line.trim().split(/\s+/).map(Number);
			if (inside !== undefined && outside !== undefined && id >= inside && id < inside + (count ?? 0)) return outside + id - inside;
		}
	} catch {}
	return id;
}

/** Of the local file: whom only a directory service knows is not found. */
function passwordEntry(id: number): { readonly name: string; readonly home: string } | null {
	try {
		for (const line of readFileSync("/etc/passwd", "utf8").split("\n")) {
			const [name = "", , number, , , home = ""] = line.split(":");
			if (Number(number) === id && number !== "" && isAbsolute(home)) return { name, home };
		}
	} catch {}
	return null;
}
