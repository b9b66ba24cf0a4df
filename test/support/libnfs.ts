import { execFile } from "node:child_process";
import { HANG_MILLISECONDS } from "./requirements.ts";

export interface ToolResult {
	readonly code: number;
	readonly stdout: Buffer;
	readonly stderr: string;
}

/** Runs one of libnfs' tools: nfs-ls, nfs-cat, nfs-cp. */
export function libnfs(tool: "nfs-ls" | "nfs-cat" | "nfs-cp", ...args: string[]): Promise<ToolResult> {
	return new Promise((resolve) => {
		execFile(tool, args, { encoding: "buffer", maxBuffer: 1 << 30, timeout: HANG_MILLISECONDS }, (error, stdout, stderr) => {
			const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
			resolve({ code, stdout, stderr: stderr.toString() });
		});
	});
}
