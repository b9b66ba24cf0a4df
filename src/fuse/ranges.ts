// FALLOCATE, LSEEK and COPY_FILE_RANGE: ranges of files.

import { OverlayError, Pending } from "../vfs/errors.ts";
import type { FuseOperation } from "./operation.ts";
import { changeContent } from "./privilege.ts";

/** fallocate(2) modes. */
const [KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE] = [1, 2, 0x10];
const MODES: readonly number[] = [0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE, KEEP_SIZE | ZERO_RANGE];
/** lseek(2). */
const [SEEK_DATA, SEEK_HOLE] = [3, 4];
/** The most that one reply can say. */
const COPIED_MAX = 1 << 30;

/** struct fuse_fallocate_in. Done in parts, between which others have their turn. */
export const fallocate: FuseOperation = {
	name: "FALLOCATE",
	argumentBytes: 32,
	run(request, _reply, mount) {
		const { overlay } = mount;
		const { state } = request;
		const [offset, length, mode] = [request.size(2, "fbig"), request.size(4, "fbig"), request.word(6)];
		if (offset + length > Number.MAX_SAFE_INTEGER) throw new OverlayError("fbig", "A range that ends beyond 2^53 - 1 bytes");
		if (!MODES.includes(mode)) throw new OverlayError("notsupp", `fallocate(2) with mode ${mode}`);
		// zeros with room behind them are a hole first
		const [frees, takes] = [(mode & (PUNCH_HOLE | ZERO_RANGE)) !== 0, (mode & PUNCH_HOLE) === 0];
		const whole = frees && takes ? 2 * length : length;
		const isFreeing = frees && state.progress < length;
		const done = frees && !isFreeing ? state.progress - length : state.progress;
		const [from, rest] = [offset + done, length - done];
		state.progress += changeContent(mount, request.nodeId, request.uid === 0, (object, who) =>
			isFreeing
				? overlay.deallocate(object, who, from, rest, "open")
				: overlay.allocate(object, who, from, rest, "open", (mode & KEEP_SIZE) !== 0),
		);
		if (state.progress < whole) throw new Pending(Promise.resolve());
	},
};

/** struct fuse_lseek_in, of SEEK_DATA and SEEK_HOLE. */
export const lseek: FuseOperation = {
	name: "LSEEK",
	argumentBytes: 24,
	run(request, reply, mount) {
		const whence = request.word(4);
		if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new OverlayError("inval", `lseek(2) with whence ${whence}`);
		// no file reaches so far
		const offset = request.size(2);
		const object = mount.object(request.nodeId);
		const found = mount.overlay.seek(object, mount.who, offset, whence === SEEK_DATA ? "data" : "hole", "open");
		if (whence === SEEK_DATA && found.isEnd) throw new OverlayError("nxio", "There is no data behind this offset");
		reply.number(found.offset);
	},
};

/** struct fuse_copy_file_range_in. A part of the range is an answer, and the caller goes on behind it. */
export const copyFileRange: FuseOperation = {
	name: "COPY_FILE_RANGE",
	argumentBytes: 56,
	run(request, reply, mount) {
		const [sourceOffset, offset] = [request.size(2), request.size(8, "fbig")];
		const length = request.word(11) === 0 ? Math.min(request.word(10), COPIED_MAX) : COPIED_MAX;
		const source = mount.object(request.nodeId);
		const count = changeContent(mount, request.id(4), request.uid === 0, (target, who) =>
			mount.overlay.copyRange(source, sourceOffset, target, offset, length, who, { read: "open", write: "open" }),
		);
		reply.u32(count);
		reply.u32(0);
	},
};
