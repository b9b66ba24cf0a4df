/**
 * Connects to a server (`address port`, from a port of its own if a third argument names one), asks for the root of the export by MOUNT, and
 * prints "mounted", "refused" and why, or the error of the connection. For clients that are other users, or elsewhere.
 */

import { Nfs3Client } from "../support/nfs3-client.ts";
import { RpcConnection, RpcRefusal } from "../support/rpc-connection.ts";

const [host = "", port, localPort] = process.argv.slice(2);
try {
	const to = { host, port: Number(port), ...(localPort === undefined ? {} : { localPort: Number(localPort) }) };
	const client = new Nfs3Client(await RpcConnection.connect(to));
	await client.null();
	const { status } = await client.mnt("/");
	console.log(status === 0 ? "mounted" : `refused: status ${status}`);
	client.close();
} catch (error) {
	console.log(
		error instanceof RpcRefusal ? `refused: ${error.kind} ${error.status} ${error.detail}` : (error as NodeJS.ErrnoException).code,
	);
}
// a connection that was refused stays open
process.exit(0);
