// The package of this repository, and a registry that has what it needs, for tests that install it without a network.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { repository } from "./requirements.ts";
import type { Scratch } from "./scratch.ts";

/** Where npm is, of the Node.js that runs this. */
export const PATH = `${dirname(process.execPath)}:${process.env.PATH}`;

export interface Packed {
	readonly filename: string;
	readonly unpackedSize: number;
	readonly files: readonly { readonly path: string; readonly mode: number }[];
}

/** `npm pack` of the repository, which compiles what has changed. */
export function pack(made: Scratch): Packed {
	const printed = execFileSync("npm", ["pack", "--json", "--silent", "--pack-destination", made.path], {
		cwd: repository,
		encoding: "utf8",
		env: { ...process.env, PATH },
		stdio: ["ignore", "pipe", "pipe"],
	});
	const packed = JSON.parse(printed.slice(printed.search(/^[[{]/m)));
	return (Array.isArray(packed) ? packed[0] : Object.values(packed)[0]) as Packed;
}

/** The address of a registry with the packages that the program needs; `host`: this machine, as who installs them knows it. */
export async function registry(t: TestContext, made: Scratch, host = "127.0.0.1"): Promise<string> {
	const { packages } = JSON.parse(readFileSync(join(repository, "package-lock.json"), "utf8")) as {
		packages: Record<string, { dev?: boolean }>;
	};
	const folders = Object.keys(packages).filter((path) => path !== "" && !packages[path]?.dev && existsSync(join(repository, path)));
	const answers = new Map<string, Buffer>();
	const server = createServer(({ url = "" }, response) => {
		const answer = answers.get(decodeURIComponent(url));
		response.writeHead(answer === undefined ? 404 : 200).end(answer ?? "{}");
	});
	server.listen(0, "127.0.0.1");
	t.after(() => server.close());
	await new Promise((resolve) => server.once("listening", resolve));
	const address = `http://${host}:${(server.address() as AddressInfo).port}/`;
	for (const [number, folder] of folders.entries()) {
		const archive = join(made.path, `${number}.tgz`);
		execFileSync("tar", ["-czf", archive, "--transform", "s,^\\.,package,", "-C", join(repository, folder), "."]);
		const bytes = readFileSync(archive);
		const manifest = JSON.parse(readFileSync(join(repository, folder, "package.json"), "utf8"));
		const dist = { tarball: `${address}${number}.tgz`, integrity: `sha512-${createHash("sha512").update(bytes).digest("base64")}` };
		answers.set(`/${number}.tgz`, bytes);
		const versions = { [manifest.version]: { ...manifest, dist } };
		answers.set(
			`/${manifest.name}`,
			Buffer.from(JSON.stringify({ name: manifest.name, "dist-tags": { latest: manifest.version }, versions })),
		);
	}
	return address;
}
