// Asks the server of an upper, at its control socket.

import { connect, type Socket } from "node:net";
import { workOf } from "../overlay/opening/export-paths.ts";
import { CONTROL_VERSION, type ControlLine, controlSocketOf, upperName } from "../server/control-protocol.ts";
import { peerOf, processUser } from "../server/peer.ts";
import { UserError } from "./user-error.ts";

/** How a question ended: with what the server said last, or because there is none that can be asked, and why. */
export type Answer = { readonly end: unknown } | { readonly why: string };

export interface Question {
	/** The name of a request, as the server knows it. */
	readonly request: string;
	readonly argument: object;
	/** Is given each item of the answer. While it runs the server waits. */
	readonly onItem: (item: unknown) => void;
}

/** UserError: the server does not do it, or ends before it is done. Where nobody can be asked no item was given. */
export async function askServer(
	layers: { readonly upper?: string | undefined; readonly work?: string | undefined },
	question: Question,
): Promise<Answer> {
	const path = layers.upper === undefined ? null : controlSocketOf(workOf(layers.upper, layers.work));
	if (path === null) return { why: "nobody serves it, or nobody who says where to ask" };
	const socket = await connected(path);
	if (typeof socket === "string") return { why: socket };
	try {
		const peer = peerOf(socket, true, processUser(), true);
		if (peer === null || peer.isOtherUser) return { why: `${path} is another user's` };
		const call = {
			version: CONTROL_VERSION,
			request: question.request,
			upper: upperName(layers.upper as string),
			argument: question.argument,
		};
		socket.write(`${JSON.stringify(call)}\n`);
		let isAnswered = false;
		for await (const line of linesOf(socket)) {
			isAnswered = true;
			if ("item" in line) question.onItem(line.item);
			else if ("end" in line) return line;
			else if (line.code === "version" || line.code === "unknown") return { why: line.error };
			else throw new UserError(line.error);
		}
		if (!isAnswered) return { why: `who listens at ${path} takes no requests of ours, or ends` };
		throw new UserError("The server ended before it had answered.");
	} finally {
		socket.destroy();
	}
}

/** Why not, where it is no socket. */
function connected(path: string): Promise<Socket | string> {
	return new Promise((resolve) => {
		const socket = connect({ path });
		socket.once("error", (error: NodeJS.ErrnoException) => resolve(`${path} cannot be reached: ${error.code}`));
		socket.once("connect", () => {
			socket.on("error", () => {});
			resolve(socket);
		});
	});
}

async function* linesOf(socket: Socket): AsyncGenerator<ControlLine> {
	let rest = "";
	socket.setEncoding("utf8");
	try {
		for await (const text of socket) {
			const lines = (rest + text).split("\n");
			rest = lines.pop() as string;
			for (const line of lines) yield JSON.parse(line);
		}
	} catch (error) {
		// it was killed
		if ((error as NodeJS.ErrnoException).code !== "ECONNRESET") throw error;
	}
}
