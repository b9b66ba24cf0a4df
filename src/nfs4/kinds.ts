// Errors for objects that are not of the kind that an operation takes (RFC 8881 section 15.2).

import { FileType, type OverlayObject } from "../vfs/operations.ts";
import { Nfs4Error, Status } from "./status.ts";

/** READ, WRITE, COMMIT, OPEN and locks: a regular file. */
export function regularFile(object: OverlayObject): OverlayObject {
	if (object.type === FileType.reg) return object;
	if (object.type === FileType.dir) throw new Nfs4Error(Status.isdir, "This is a directory");
	if (object.type === FileType.lnk) throw new Nfs4Error(Status.symlink, "This is a symlink");
	throw new Nfs4Error(Status.wrongType, "This is not a regular file");
}

/** What looks a name up, or goes to a parent. */
export function directoryToSearch(object: OverlayObject): OverlayObject {
	if (object.type === FileType.lnk) throw new Nfs4Error(Status.symlink, "This is a symlink");
	return directory(object);
}

export function directory(object: OverlayObject): OverlayObject {
	if (object.type !== FileType.dir) throw new Nfs4Error(Status.notdir, "This is not a directory");
	return object;
}
