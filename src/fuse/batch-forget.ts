// BATCH_FORGET: FORGET of many objects.

import type { FuseOperation } from "./operation.ts";

const [HEAD_BYTES, ONE_BYTES] = [8, 16];

/** struct fuse_batch_forget_in, then a struct fuse_forget_one for each. */
export const batchForget: FuseOperation = {
	name: "BATCH_FORGET",
	argumentBytes: HEAD_BYTES,
	isSilent: true,
	run(request, _reply, mount) {
		const count = Math.min(request.word(0), Math.floor((request.argumentBytes - HEAD_BYTES) / ONE_BYTES));
		for (let i = 0; i < count; i++) {
			const word = (HEAD_BYTES + i * ONE_BYTES) / 4;
			mount.forget(request.id(word), request.word(word + 2) + request.word(word + 3) * 4294967296);
		}
	},
};
