// An abstract Unix socket (unix(7)) by which the keeper of a mount is asked to look whether the mount is still there, and seen to end.

import { connect, createServer, type Server } from "node:net";

/** `device`: the device number of the mount, which no other one has at the time. */
function nameOf(device: string): string {
	return `\0holdfast-mount-${device}`;
}

/**
 * Calls `look` whenever somebody asks. Whoever asks may be anybody, and so learns nothing and can end nothing; they see that the keeper has ended by
 * their connection. Where the name cannot be had, nobody can ask.
 */
export function listenAsKeeper(device: string, look: () => void): Server {
	const server = createServer((socket) => {
		socket
			.on("error", () => {})
			.resume()
			.unref();
		look();
	});
	server.on("error", () => {});
	return server.listen(nameOf(device)).unref();
}

/** Has the keeper of a mount that was unmounted look, and resolves when it has ended. Where nobody has the name, at once. */
export function awaitKeeper(device: string): Promise<void> {
	return new Promise((resolve) => {
		const socket = connect(nameOf(device));
		socket.on("error", () => {}).resume();
		socket.on("close", () => resolve());
	});
}
