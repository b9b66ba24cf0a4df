import { once } from "node:events";
import { createConnection } from "node:net";

/** GETATTR of NFSv3 by one connection, one call after the other. */

const NFS = 100003;
const GETATTR = 1;
export const JUKEBOX = 10008;

/** Resolves to a client: `getattr(handle)` resolves to the status. */
export async function connect(port) {
	const socket = createConnection({ host: "127.0.0.1", port, noDelay: true });
	await once(socket, "connect");
	let xid = 1;
	let received = Buffer.alloc(0);
	let waiting = null;
	socket.on("error", (error) => waiting?.reject(error));
	socket.on("close", () => waiting?.reject(new Error("the server has closed the connection")));
	socket.on("data", (chunk) => {
		received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
		const length = received.length < 4 ? Number.POSITIVE_INFINITY : (received.readUInt32BE(0) & 0x7fffffff) + 4;
		if (received.length < length) return;
		// reply, accepted, no verifier, success: then the status
		const status = received.readUInt32BE(28);
		received = received.subarray(length);
		waiting.resolve(status);
	});
	return {
		getattr(handle) {
			const padded = (handle.length + 3) & ~3;
			const call = Buffer.alloc(4 + 40 + 20 + 4 + padded);
			// AUTH_SYS of root on a machine without a name
			const words = [0x80000000 + call.length - 4, ++xid, 0, 2, NFS, 3, GETATTR, 1, 20, 0, 0, 0, 0, 0, 0, 0, handle.length];
			words.forEach((word, i) => {
				call.writeUInt32BE(word, i * 4);
			});
			handle.copy(call, words.length * 4);
			return new Promise((resolve, reject) => {
				waiting = { resolve, reject };
				socket.write(call);
			});
		},
		close: () => socket.destroy(),
	};
}
