// The commands that mount an export, or a released upper, and unmount it, for people to paste.

import { isIPv6 } from "node:net";
import type { ListenAddress } from "../server/listen-address.ts";
import { quoteForShell } from "../vfs/names.ts";
import type { LayerPaths } from "./layer-options.ts";

/** By the first TCP address; none where there is none, since no kernel mounts over a Unix socket. `versions`: of NFS, as they are served. */
export function mountLines(addresses: readonly ListenAddress[], name: string, versions: readonly number[]): string[] {
	const tcp = addresses.find((address) => "port" in address);
	if (tcp === undefined || !("port" in tcp)) return [];
	const { port } = tcp;
	const isWild = tcp.host === "0.0.0.0" || tcp.host === "::";
	const host = isWild ? "SERVER" : isIPv6(tcp.host) ? `[${tcp.host}]` : tcp.host;
	const proto = isIPv6(tcp.host) && !isWild ? "tcp6" : "tcp";
	const source = quoteForShell(`${host}:${name}`);
	// what clients make must not become a way to be root, or to reach devices, where it is mounted
	const safe = "nosuid,nodev";
	const four = `sudo mount -t nfs -o vers=4.1,proto=${proto},port=${port},${safe} ${source} /mnt`;
	const three = `sudo mount -t nfs -o vers=3,proto=${proto},port=${port},mountport=${port},mountproto=${proto},nolock,${safe} ${source} /mnt`;
	const hasThree = versions.includes(3);
	const onLinux = versions.includes(4)
		? ["On Linux:", four, ...(hasThree ? ["or, by version 3 and without locks:", three] : [])]
		: ["On Linux:", three];
	// macOS has had version 4.1 for a short time only
	const onMac = `sudo mount_nfs -o vers=3,tcp,port=${port},mountport=${port},nolocks,resvport,${safe} ${source} /private/mnt`;
	return [...onLinux, "sudo umount /mnt", ...(hasThree ? ["On macOS:", onMac, "sudo umount /private/mnt"] : [])];
}

/** The command by which the kernel's overlayfs mounts a released upper with what it needs to keep handles and renamed directories. */
export function kernelMountCommand(upper: string, work: string, { lowers, dataLowers, userXattrs }: LayerPaths): string[] {
	const data = dataLowers.map((path) => `::${escapeLower(path)}`).join("");
	const options = [
		`lowerdir=${lowers.map(escapeLower).join(":")}${data}`,
		`upperdir=${escapeOption(upper)}`,
		`workdir=${escapeOption(work)}`,
		"index=on",
		// the kernel has no handles of files whose data it is told to look for elsewhere, and follows no user's redirects
		...(data === "" ? ["nfs_export=on"] : ["metacopy=on"]),
		userXattrs ? "userxattr" : "redirect_dir=on",
	];
	return ["mount", "-t", "overlay", "overlay", "-o", options.join(","), "/mnt"];
}

function escapeOption(path: string): string {
	return path.replace(/[\\,]/g, "\\$&");
}

/** Colons part the layers. */
function escapeLower(path: string): string {
	return path.replace(/[\\,:]/g, "\\$&");
}
