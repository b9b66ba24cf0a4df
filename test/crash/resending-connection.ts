import { type AuthSys, decodeReply, encodeCall, RpcConnection } from "../support/rpc-connection.ts";
import type { XdrReader } from "../support/xdr-codec.ts";

/**
 * A connection as an NFS client keeps it: when it breaks it is made anew, and what was not answered is sent again as it was, with its xid.
 * It stands in for RpcConnection in Nfs3Client.
 */
export class ResendingConnection {
	readonly #port: number;
	#connection: Promise<RpcConnection> | null = null;
	#xid: number;
	#isClosed = false;
	/** Nothing is sent before it resolves. */
	gate: Promise<unknown> = Promise.resolve();
	/** Requests that were sent more than once. */
	resent = 0;

	constructor(port: number, firstXid: number) {
		this.#port = port;
		this.#xid = firstXid;
	}

	async call(program: number, version: number, procedure: number, args: Buffer, credentials: AuthSys | null): Promise<XdrReader> {
		this.#xid = (this.#xid + 1) >>> 0;
		const xid = this.#xid;
		const record = encodeCall(xid, program, version, procedure, args, credentials);
		for (let times = 1; ; times++) {
			const connection = await this.#connected();
			await this.gate;
			if (times === 2) this.resent++;
			let reply: Buffer;
			try {
				const answered = connection.reply(xid);
				connection.sendRecord(record);
				reply = await answered;
			} catch (error) {
				if (!connection.closed || this.#isClosed) throw error;
				continue;
			}
			return decodeReply(reply);
		}
	}

	async #connected(): Promise<RpcConnection> {
		for (;;) {
			if (this.#isClosed) throw new Error("the connection was closed");
			this.#connection ??= RpcConnection.connect(this.#port);
			const attempt = this.#connection;
			try {
				const connection = await attempt;
				if (!connection.closed) return connection;
			} catch {
				await new Promise((resolve) => setTimeout(resolve, 10));
			}
			if (this.#connection === attempt) this.#connection = null;
		}
	}

	close(): void {
		this.#isClosed = true;
		void this.#connection?.then(
			(connection) => connection.close(),
			() => {},
		);
	}
}
