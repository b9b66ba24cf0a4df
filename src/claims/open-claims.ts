// A start: what clients had before, if it still stands, and else a grace in which they reclaim it.

import { randomBytes } from "node:crypto";
import { O } from "../linux/open.ts";
import { currentBootId } from "./boot-id.ts";
import { ClaimFolder } from "./claim-folder.ts";
import { NO_LOG } from "./claim-log.ts";
import { type ClaimParts, Claims } from "./claims.ts";
import { type ClaimLimits, DEFAULT_CLAIM_LIMITS, LEASE_SECONDS } from "./limits.ts";
import { LogFile } from "./log-file.ts";
import { LogReader } from "./log-reader.ts";
import { examineLog, type FoundLog, replay, setAside } from "./log-replay.ts";
import type { ClaimHooks } from "./operations.ts";
import { CLIENTS_FILE, RecoveryFile, readClients } from "./recovery-file.ts";
import { NO_LIST } from "./recovery-list.ts";
import { readServer, type ServerIdentity, writeServer } from "./server-file.ts";
import { LOG_NAME, logHead, NEW_LOG_NAME, StateLog } from "./state-log.ts";

export interface OpenClaimsOptions {
	/** `work/holdfast/nfs4`, made if it is not there; null: nothing outlives the process. */
	readonly folder: string | null;
	readonly hooks: ClaimHooks;
	readonly leaseSeconds?: number;
	readonly limits?: Partial<ClaimLimits>;
	/** Somebody else has changed the upper since: what clients had open may be something else now, so they reclaim it. */
	readonly isChanged?: boolean;
	/** Default: the kernel's, see `currentBootId`. */
	readonly bootId?: string;
	/** Up to which size the log is never written anew; for tests. */
	readonly smallLogBytes?: number;
}

/** CREATE_SESSION4_FLAG_PERSIST. */
const PERSIST = 1;
/** Of claims that are kept nowhere. */
const UNKEPT = { log: NO_LOG, list: NO_LIST, isPersistent: false, listed: new Map<string, boolean>() };

/**
 * ClaimFilesError where the files cannot be used. Next, before any request: `restoreHolds` of the overlays with `heldHandles`, then `tick`, which
 * ends the restore unless there is grace.
 */
export function openClaims(options: OpenClaimsOptions): Claims {
	const { hooks, leaseSeconds = LEASE_SECONDS.default } = options;
	const limits = { ...DEFAULT_CLAIM_LIMITS, ...options.limits };
	const common = { hooks, leaseSeconds, limits };
	if (options.folder === null) {
		return new Claims({ ...common, ...UNKEPT, serverId: randomBytes(16), boot: newBoot() });
	}
	const folder = new ClaimFolder(options.folder);
	const bootId = options.bootId ?? currentBootId();
	const before = readServer(folder);
	folder.flushNow(CLIENTS_FILE.name);
	const clients = readClients(folder);
	const found = findLog(folder, before, hooks);
	const stands = found !== null && !options.isChanged && !found.isDamaged && found.boot === before.boot;
	const goesOn = stands && (found.bootId === bootId || found.isClosed);
	if (options.isChanged && found !== null) setAside(folder, LOG_NAME);
	if (found?.isDamaged && found.bootId === bootId) {
		hooks.warn(`${folder.shown(LOG_NAME)} is damaged, and none of it is used: clients have to reclaim what they had open.`);
	}
	const server = goesOn ? before : { id: before.id, boot: before.boot + 1 };
	if (!goesOn) writeServer(folder, server);
	const file = goesOn ? continueLog(folder, found, hooks) : startLog(folder, server);
	const log = new StateLog(folder, file, server, bootId, hooks, options.smallLogBytes);
	const list = new RecoveryFile(folder, clients, (sentence) => hooks.warn(sentence));
	const listed = goesOn && found.hasGraceEnded ? new Map<string, boolean>() : clients;
	const claims = new Claims({ ...common, serverId: server.id, boot: server.boot, log, list, isPersistent: true, listed });
	if (goesOn) replay(found, claims);
	else if (found !== null && !options.isChanged) takeDeadSessions(found, claims, common);
	found?.log.close();
	claims.begin(() => log.attach(claims, !goesOn));
	return claims;
}

/** A server that keeps nothing takes a number that no other start of its is likely to have had. */
function newBoot(): number {
	return 1 + (randomBytes(4).readUInt32BE(0) % 0xfffffffe);
}

/** A log that is none of this server's is set aside, and told. */
function findLog(folder: ClaimFolder, server: ServerIdentity, hooks: ClaimHooks): FoundLog | null {
	const fd = folder.open(LOG_NAME, O.rdonly);
	if (fd === null) return null;
	const log = new LogReader(fd);
	const found = examineLog(log, server);
	if (typeof found !== "string") return found;
	log.close();
	setAside(folder, LOG_NAME);
	hooks.warn(
		`${folder.shown(LOG_NAME)} cannot be used: ${found}. It is set aside as log.aside; clients have to reclaim what they had open.`,
	);
	return null;
}

function continueLog(folder: ClaimFolder, found: FoundLog, hooks: ClaimHooks): LogFile {
	const file = new LogFile(folder.open(LOG_NAME, O.rdwr) as number, found.log.size);
	if (found.end < found.log.size) {
		file.cut(found.end);
		hooks.warn(`${folder.shown(LOG_NAME)} ended in the middle of a record, which was cut off: ${found.log.size - found.end} bytes.`);
	}
	return file;
}

function startLog(folder: ClaimFolder, server: ServerIdentity): LogFile {
	const file = new LogFile(folder.make(NEW_LOG_NAME), 0);
	const status = file.append(logHead(server));
	if (status < 0) throw folder.failure("write", NEW_LOG_NAME, status);
	folder.rename(NEW_LOG_NAME, LOG_NAME);
	return file;
}

/** Sessions that were promised to outlive a failure come back dead: their last requests may be asked for again, and nothing more. */
function takeDeadSessions(found: FoundLog, claims: Claims, common: Pick<ClaimParts, "hooks" | "leaseSeconds" | "limits">): void {
	const before = new Claims({ ...common, ...UNKEPT, serverId: claims.serverId, boot: found.boot });
	replay(found, before);
	for (const session of before.tables.sessions.values()) if ((session.flags & PERSIST) !== 0) claims.sessions.addDead(session);
}
