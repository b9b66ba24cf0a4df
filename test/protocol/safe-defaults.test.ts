/** What a server lets nobody do who was not named: attacks by a raw client, on a server of root's and of an ordinary user's. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { plant } from "../support/lower-tree.ts";
import { type Nfs3Client, ok, refused } from "../support/nfs3-client.ts";
import { clientFrom, networkNamespace } from "../support/peers.ts";
import { needs, onlyInAll } from "../support/requirements.ts";
import { RpcRefusal } from "../support/rpc-connection.ts";
import { type Scratch, scratch } from "../support/scratch.ts";
import {
	NOBODY,
	ordinaryPath,
	ordinaryUser,
	runHoldfast,
	type ServerOptions,
	ServerProcess,
	startServer,
} from "../support/server-process.ts";

const skip = needs("root", "setpriv");
const skipNetwork = needs("root", "setpriv", "ip", "nsenter", "unshare");
const ALICE = 12_345;
const BOB = 12_346;
const SECRET = "the private key";

/** RFC 5531 section 9: a call that is denied for its authentication, which is too weak. */
async function assertTooWeak(call: Promise<unknown>, what: string): Promise<void> {
	await assert.rejects(call, (error) => {
		assert.ok(error instanceof RpcRefusal, `${what}: ${error}`);
		assert.deepEqual([error.kind, error.status, ...error.detail], ["denied", 1, 5], what);
		return true;
	});
}

/** Everything that an attacker would, with a handle that was given to somebody else. */
async function assertShutOut(attacker: Nfs3Client, root: Buffer, secret: Buffer, upper: string): Promise<void> {
	await attacker.null();
	await attacker.mountNull();
	for (const credentials of [{ uid: 0, gid: 0 }, { uid: NOBODY, gid: NOBODY }, { uid: ALICE, gid: ALICE }, null]) {
		attacker.credentials = credentials;
		await assertTooWeak(attacker.mnt("/"), "MNT");
		await assertTooWeak(attacker.exports(), "EXPORT");
		await assertTooWeak(attacker.dump(), "DUMP");
		await assertTooWeak(attacker.umntall(), "UMNTALL");
		await assertTooWeak(attacker.getattr(root), "GETATTR");
		await assertTooWeak(attacker.lookup(root, "secret"), "LOOKUP");
		await assertTooWeak(attacker.read(secret, 0n, 100), "READ");
		await assertTooWeak(attacker.write(secret, 0n, Buffer.from("mine")), "WRITE");
		await assertTooWeak(attacker.create(root, "shell", { unchecked: { mode: 0o4755, uid: 0 } }), "CREATE");
		await assertTooWeak(attacker.setattr(secret, { mode: 0o4777 }), "SETATTR");
		await assertTooWeak(attacker.remove(root, "secret"), "REMOVE");
	}
	await attacker.null();
	assert.ok(!existsSync(join(upper, "shell")) && !existsSync(join(upper, "secret")));
}

async function open(client: Nfs3Client): Promise<{ root: Buffer; secret: Buffer }> {
	const root = await client.root();
	return { root, secret: await client.walk(root, "secret") };
}

async function assertServed(client: Nfs3Client): Promise<void> {
	const { secret } = await open(client);
	assert.equal((await client.readFile(secret)).toString(), SECRET);
}

/** A lower with a file that is its owner's alone, and a socket in a folder that everybody may search. */
function layers(made: Scratch, owner: number) {
	chmodSync(made.path, 0o755);
	const lower = plant(made.folder("lower"), { secret: SECRET, "dir/file": "content" });
	const [upper, work, state, sockets] = ["upper", "work", "state", "sockets"].map((name) => made.folder(name)) as [
		string,
		string,
		string,
		string,
	];
	for (const path of [lower, join(lower, "secret"), join(lower, "dir"), join(lower, "dir/file"), upper, work, state, sockets])
		chownSync(path, owner, owner);
	chmodSync(join(lower, "secret"), 0o600);
	chmodSync(sockets, 0o755);
	const socket = join(sockets, "socket");
	const args = ["--async", "--state-dir", state, "--listen", "127.0.0.1:0", "--listen", `unix:${socket}`];
	return { upper, socket, options: { lowers: [lower], upper, work, args } satisfies ServerOptions };
}

const loopback = (server: ServerProcess) => ({ host: "127.0.0.1", port: server.port });

test("root's server: no local user makes a setuid file or reads root's files, from any port but root's", { skip }, async (t) => {
	const made = scratch(t);
	const { upper, socket, options } = layers(made, 0);
	const server = await startServer(made, { ...options, isSecure: true });
	chmodSync(socket, 0o777);
	const { root, secret } = await open(await clientFrom(made, loopback(server), { isReserved: true }));
	for (const uid of [ALICE, 0]) await assertShutOut(await clientFrom(made, loopback(server), { uid }), root, secret, upper);
	await assertShutOut(await clientFrom(made, socket, { uid: ALICE }), root, secret, upper);
	assert.match(server.stderr, /127\.0\.0\.1 calls from port \d+, and calls are taken from ports below 1024 \(--insecure/);
	assert.match(server.stderr, /over a Unix socket calls are taken from root only/);
	assert.equal(server.stderr.match(/A client is refused/g)?.length, 2, "each kind is told once");

	await assertServed(await clientFrom(made, socket));
	const client = await clientFrom(made, loopback(server), { isReserved: true });
	await assertServed(client);
	const file = await client.createFile(root, "roots", "", 0o4755);
	assert.equal((await client.attributesOf(file)).uid, 0, "over loopback root is root");
	await refused(client.as(ALICE, ALICE).read(secret, 0n, 10), "acces", "READ of root's file by another user");
	await server.terminate();
});

test("--insecure takes calls from all ports and all users", { skip }, async (t) => {
	const made = scratch(t);
	const { socket, options } = layers(made, 0);
	const server = await startServer(made, { ...options, isSecure: true, args: [...options.args, "--insecure"] });
	chmodSync(socket, 0o777);
	for (const to of [loopback(server), socket]) await assertServed(await clientFrom(made, to, { uid: ALICE }));
	assert.equal(server.stderr, "");
});

test("--root-squash squashes over loopback and Unix sockets too", { skip: skip || onlyInAll }, async (t) => {
	const made = scratch(t);
	const { socket, options } = layers(made, 0);
	chmodSync(options.lowers[0] as string, 0o777);
	const args = [...options.args, "--root-squash", "--anon-uid", "77"];
	const server = await startServer(made, { ...options, upper: join(made.path, "new"), isSecure: true, args });
	for (const [i, to] of [loopback(server), socket].entries()) {
		const client = await clientFrom(made, to, { isReserved: true });
		assert.equal((await client.attributesOf(await client.createFile(await client.root(), `file${i}`))).uid, 77);
	}
});

test("an ordinary user's server: no other user reads or changes anything, over TCP and Unix sockets, whoever they say they are", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const { upper, socket, options } = layers(made, NOBODY);
	const server = await startServer(made, { ...options, isSecure: true, user: ordinaryUser(made) });
	chmodSync(socket, 0o777);
	const { root, secret } = await open(await clientFrom(made, loopback(server), { uid: NOBODY }));
	for (const to of [loopback(server), socket]) {
		for (const uid of [ALICE, BOB]) await assertShutOut(await clientFrom(made, to, { uid }), root, secret, upper);
	}
	assert.match(server.stderr, /comes from 127\.0\.0\.1 and is another user's/);
	assert.match(server.stderr, /comes from a Unix socket and is another user's/);
	// the kernel's client is root's
	for (const to of [loopback(server), socket]) for (const uid of [NOBODY, 0]) await assertServed(await clientFrom(made, to, { uid }));
	await assertServed(await clientFrom(made, loopback(server), { isReserved: true }));
	await server.terminate();
});

test("--allow-other takes calls from other users; --insecure does not", { skip }, async (t) => {
	const made = scratch(t);
	const { socket, options } = layers(made, NOBODY);
	const user = ordinaryUser(made);
	const served = async (more: string): Promise<ServerProcess> => {
		const server = await startServer(made, { ...options, isSecure: true, user, args: [...options.args, more] });
		chmodSync(socket, 0o777);
		return server;
	};
	const insecure = await served("--insecure");
	for (const to of [loopback(insecure), socket]) await assertTooWeak((await clientFrom(made, to, { uid: ALICE })).mnt("/"), "MNT");
	await insecure.terminate();
	const open = await served("--allow-other");
	for (const to of [loopback(open), socket]) await assertServed(await clientFrom(made, to, { uid: ALICE }));
	await open.terminate();
});

test("an ordinary user's server with --fake-root is for no other user either, and root of others is no root of its own", {
	skip: skip || onlyInAll,
}, async (t) => {
	const made = scratch(t);
	const { socket, options } = layers(made, NOBODY);
	const args = [...options.args, "--fake-root"];
	const server = await startServer(made, { ...options, isSecure: true, user: ordinaryUser(made), args });
	chmodSync(socket, 0o777);
	for (const to of [loopback(server), socket]) {
		await assertTooWeak((await clientFrom(made, to, { uid: ALICE })).mnt("/"), "MNT");
		await assertServed(await clientFrom(made, to, { uid: NOBODY }));
	}
});

function cannotUnshare(...options: string[]): string | false {
	const user = { uid: NOBODY, gid: NOBODY };
	return spawnSync("unshare", [...options, "true"], user).status === 0 ? false : `this kernel lets no user unshare ${options.join(" ")}`;
}

test("in a user namespace: without mappings it cannot tell users apart and says so; as its user 0 it takes calls of the user that this is", {
	skip: skip || onlyInAll || cannotUnshare("-U") || cannotUnshare("-U", "-r"),
}, async (t) => {
	const made = scratch(t);
	const { socket, options } = layers(made, NOBODY);
	const user = ordinaryUser(made);
	const unmapped = new ServerProcess({ ...options, isSecure: true, user, within: ["unshare", "-U"] });
	await assert.rejects(
		unmapped.start(),
		/Cannot tell our own connections from others' \(our user namespace does not know us.*--allow-other/,
	);
	await startServer(made, { ...options, isSecure: true, user, within: ["unshare", "-U", "-r"] });
	chmodSync(socket, 0o777);
	// who is root outside is nobody whom it knows
	for (const uid of [ALICE, 0]) await assertTooWeak((await clientFrom(made, socket, { uid })).mnt("/"), `MNT by ${uid}`);
	await assertServed(await clientFrom(made, socket, { uid: NOBODY }));
});

test("listening beyond loopback without --allow is refused, and so are clients that cannot be understood", { skip }, (t) => {
	const made = scratch(t);
	const { options } = layers(made, 0);
	const upper = join(made.path, "never");
	const serve = (...args: string[]) =>
		runHoldfast([
			"serve",
			"--create",
			"--lower",
			options.lowers[0] as string,
			"--upper",
			upper,
			"--state-dir",
			made.folder("state"),
			...args,
		]);
	for (const args of [
		["--listen", "0.0.0.0:0"],
		["--listen", "127.0.0.1:0", "--listen", "[::]:0"],
	]) {
		const run = serve(...args);
		assert.equal(run.code, 2, run.stderr);
		assert.match(run.stderr, /^holdfast: Cannot listen at (0\.0\.0\.0|\[::\]):0, where other machines come, without --allow: [^\n]*\n$/);
	}
	for (const client of ["10.0.0.1/8", "10.0.0.1,no_subtree_check"]) {
		const run = serve("--allow", client);
		assert.equal(run.code, 2, `${client}: ${run.stdout}${run.stderr}`);
		assert.match(run.stderr, /^holdfast: [^\n]*(A client is the name of a host|Its options are ro)[^\n]*\n$/);
	}
	const run = serve("--allow", "no-such-host.invalid");
	assert.equal(run.code, 1, run.stderr);
	assert.match(run.stderr, /^holdfast: Cannot allow the host no-such-host\.invalid: it has no address\.[^\n]*\n$/);
	assert.ok(!existsSync(upper), "nothing was made");
});

test("with --allow only those come who are named, with what is said of each", { skip: skipNetwork }, async (t) => {
	const made = scratch(t);
	const { options } = layers(made, 0);
	chmodSync(options.lowers[0] as string, 0o777);
	const { within, address, outside } = await networkNamespace(made);
	const [one, two, three, four] = outside as [string, string, string, string];
	const upper = join(made.path, "new");
	const args = ["--async", "--state-dir", made.folder("state"), "--listen", `${address}:0`];
	const allow = [`${one},no-root-squash`, `::ffff:${two},ro`, `${three}/32,all_squash,anonuid=55,anongid=66`].flatMap((rule) => [
		"--allow",
		rule,
	]);
	const server = await startServer(made, { ...options, upper, within, isSecure: true, args: [...args, ...allow] });
	const to = { host: address, port: server.port };
	const from = (localAddress: string, isReserved = true) => clientFrom(made, to, { localAddress, isReserved });
	const owner = async (client: Nfs3Client, name: string, uid: number) => {
		const { handle } = await ok(client.as(uid, uid).create(await client.root(), name, { guarded: { mode: 0o644 } }), name);
		return (await client.attributesOf(handle as Buffer)).uid;
	};
	const first = await from(one);
	const { root, secret } = await open(first);
	assert.equal(await owner(first, "one", 0), 0);
	assert.equal(await owner(await from(three), "three", ALICE), 55);
	const reader = await from(two);
	assert.equal((await reader.root()).toString("hex"), root.toString("hex"));
	await refused(reader.create(root, "two"), "rofs", "CREATE by who may only read");
	await refused(reader.as(ALICE, ALICE).read(secret, 0n, 10), "acces", "READ of root's file by another user");
	await refused(reader.read(secret, 0n, 10), "acces", "READ by root of another machine");
	await assertShutOut(await from(four), root, secret, upper);
	await assertShutOut(await from(one, false), root, secret, upper);
	assert.match(server.stderr, new RegExp(`no --allow names ${four.replaceAll(".", "\\.")}`));
	assert.ok(!existsSync(join(upper, "two")));
	await server.terminate();
});

test("with --allow loopback and Unix sockets are for who is named too, and an address where nobody may come is told of", {
	skip,
}, async (t) => {
	const made = scratch(t);
	const { upper, socket, options } = layers(made, 0);
	const served = (...allow: string[]) =>
		startServer(made, { ...options, isSecure: true, args: [...options.args, ...allow.flatMap((rule) => ["--allow", rule])] });
	const closed = await served("192.0.2.0/24", "::1");
	const stranger = await clientFrom(made, loopback(closed), { isReserved: true });
	await assertTooWeak(stranger.mnt("/"), "MNT over loopback");
	await assertTooWeak((await clientFrom(made, socket)).mnt("/"), "MNT over a Unix socket");
	assert.match(closed.stderr, /Nobody may come to 127\.0\.0\.1:0: /);
	assert.match(closed.stderr, /Nobody may come to \S+sockets\/socket: /);
	await closed.terminate();
	const open = await served("localhost", "unix,ro");
	assert.doesNotMatch(open.stderr, /Nobody may come/);
	await assertServed(await clientFrom(made, loopback(open), { isReserved: true }));
	const reader = await clientFrom(made, socket);
	await assertServed(reader);
	await refused(reader.create(await reader.root(), "new"), "rofs", "CREATE by who may only read");
	assert.ok(!existsSync(join(upper, "new")));
	await open.terminate();
});

test("root of other machines is nobody unless --no-root-squash says otherwise, for all exports of a server", {
	skip: skipNetwork,
}, async (t) => {
	const made = scratch(t);
	const { within, address, outside } = await networkNamespace(made);
	const trees = ["a", "b"].map((name) => plant(made.folder(name), { file: "content" }));
	for (const tree of trees) chmodSync(tree, 0o777);
	for (const [more, uid] of [
		[[], 65534],
		[["--no-root-squash"], 0],
	] as const) {
		const args = ["--export", `/a=${trees[0]}`, "--export", `/b=${trees[1]}`, "--async", "--state-dir", made.folder(`state${uid}`)];
		const server = await startServer(made, {
			within,
			isSecure: true,
			args: [...args, "--listen", `${address}:0`, "--allow", outside[0] as string, ...more],
		});
		const to = { host: address, port: server.port };
		for (const name of ["/a", "/b"]) {
			const client = await clientFrom(made, to, { localAddress: outside[0] as string, isReserved: true });
			const file = await client.createFile(await client.root(name), `new${uid}`);
			assert.equal((await client.attributesOf(file)).uid, uid);
		}
		const unlisted = await clientFrom(made, to, { localAddress: outside[2] as string, isReserved: true });
		for (const name of ["/a", "/b"]) await assertTooWeak(unlisted.mnt(name), "MNT");
		assert.deepEqual(
			(await (await clientFrom(made, to, { localAddress: outside[0] as string, isReserved: true })).exports()).map(({ path }) => path),
			["/a", "/b"],
		);
		await server.terminate();
	}
});

test("an ordinary user's server that listens beyond loopback: who is named comes, and no other user of its own machine by any address", {
	skip: skipNetwork,
}, async (t) => {
	const made = scratch(t);
	const { options } = layers(made, NOBODY);
	const { within, address, outside } = await networkNamespace(made);
	const user = ordinaryUser(made);
	const as = (uid: number) => ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--"];
	const launcher = made.file("launch", `#!/bin/sh\ncd / && exec ${process.execPath} ${user.main} "$@"\n`);
	chmodSync(launcher, 0o755);
	const args = [...options.args.slice(0, 3), "--listen", `${address}:0`, "--listen", "127.0.0.1:0", "--allow", "127.0.0.1"];
	const allow = ["--allow", outside[0] as string, "--allow", address];
	const server = await startServer(made, {
		...options,
		isSecure: true,
		within: [...within, ...as(NOBODY)],
		launcher,
		args: [...args, ...allow],
	});
	await assertServed(await clientFrom(made, { host: address, port: server.port }, { localAddress: outside[0] as string }));
	const stranger = await clientFrom(made, { host: address, port: server.port }, { localAddress: outside[1] as string });
	await assertTooWeak(stranger.mnt("/"), "MNT");

	const knock = ordinaryPath(made, "dist/test/protocol/knock.js", ["dist/test"]);
	const inside = (uid: number, host: string, port: number) => {
		const [program, ...rest] = [...within, ...as(uid), process.execPath, knock, host, String(port)];
		return spawnSync(program as string, rest, { encoding: "utf8", cwd: "/" }).stdout.trim();
	};
	const second = Number(/127\.0\.0\.1:(\d+)/.exec(server.stdout)?.[1]);
	for (const [host, port] of [
		[address, server.port],
		["127.0.0.1", second],
	] as const) {
		assert.equal(inside(NOBODY, host, port), "mounted", host);
		assert.equal(inside(ALICE, host, port), "refused: denied 1 5", host);
		assert.equal(inside(0, host, port), "mounted", host);
	}
});

test("a port below 1024 proves nothing on a machine where any user may have it", { skip: skipNetwork }, async (t) => {
	const made = scratch(t);
	const { options } = layers(made, 0);
	const { within } = await networkNamespace(made);
	const [program, ...rest] = [...within, "sh", "-c", "echo 500 >/proc/sys/net/ipv4/ip_unprivileged_port_start"];
	assert.equal(spawnSync(program as string, rest).status, 0);
	const server = await startServer(made, { ...options, within, isSecure: true, args: options.args.slice(0, 5) });
	const knock = ordinaryPath(made, "dist/test/protocol/knock.js", ["dist/test"]);
	const from = (uid: number, port: number) => {
		const user = ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--"];
		const [program, ...rest] = [...within, ...user, process.execPath, knock, "127.0.0.1", String(server.port), String(port)];
		return spawnSync(program as string, rest, { encoding: "utf8", cwd: "/" }).stdout.trim();
	};
	assert.equal(from(ALICE, 700), "refused: denied 1 5");
	assert.equal(from(0, 701), "mounted");
	assert.equal(from(0, 400), "mounted");
	assert.equal(from(ALICE, 401), "EACCES");
	assert.equal(from(0, 2000), "refused: denied 1 5");
});

test("mount lines: set user ids and devices count for nothing, and a name of any bytes is one word of a shell", { skip }, async (t) => {
	const made = scratch(t);
	const tree = plant(made.folder("tree"), { file: "content" });
	const name = "/it's $(id) `id`\n\x1b[31m";
	const server = await startServer(made, {
		isSecure: true,
		args: ["--export", `${name}=${tree}`, "--state-dir", made.folder("state"), "--listen", "127.0.0.1:0"],
	});
	const lines = server.stdout.split("\n").filter((line) => line.startsWith("sudo "));
	const told = (line: string) =>
		spawnSync("bash", ["-c", `sudo() { printf '%s\\0' "$@"; }; ${line}`], { encoding: "utf8" }).stdout.split("\0");
	const options = `port=${server.port},mountport=${server.port}`;
	assert.deepEqual(lines.map(told), [
		["mount", "-t", "nfs", "-o", `vers=4.1,proto=tcp,port=${server.port},nosuid,nodev`, `127.0.0.1:${name}`, "/mnt", ""],
		["mount", "-t", "nfs", "-o", `vers=3,proto=tcp,${options},mountproto=tcp,nolock,nosuid,nodev`, `127.0.0.1:${name}`, "/mnt", ""],
		["umount", "/mnt", ""],
		["mount_nfs", "-o", `vers=3,tcp,${options},nolocks,resvport,nosuid,nodev`, `127.0.0.1:${name}`, "/private/mnt", ""],
		["umount", "/private/mnt", ""],
	]);
	assert.ok([...server.stdout].every((character) => character === "\n" || character >= " "));
});

test("a new upper lies where other users cannot search, or its owner is told", { skip }, async (t) => {
	const made = scratch(t);
	const lower = plant(made.folder("lower"), { file: "content" });
	chmodSync(lower, 0o755);
	chmodSync(made.path, 0o755);
	const state = join(made.path, "state");
	const short = await startServer(made, { directory: lower, isSecure: true, args: ["--state-dir", state] });
	const upper = /^Changes: (.*)$/m.exec(short.stdout)?.[1] as string;
	assert.equal(statSync(state).mode & 0o777, 0o700);
	assert.ok(upper.startsWith(state));
	assert.equal(statSync(upper).mode & 0o777, 0o755, "the root of the export looks as the tree's");
	assert.equal(short.stderr, "");
	await short.terminate();

	const [open, closed] = [made.folder("open"), made.folder("closed")];
	chmodSync(open, 0o755);
	chmodSync(closed, 0o700);
	for (const [folder, isTold] of [
		[open, true],
		[closed, false],
	] as const) {
		const server = await startServer(made, { lowers: [lower], upper: join(folder, "upper"), isSecure: true, args: ["--state-dir", state] });
		assert.equal(/Other users of this machine reach the upper .*open\/upper.*mode 0700/.test(server.stderr), isTold, server.stderr);
		assert.equal(statSync(join(folder, "upper.work")).mode & 0o777, 0o700);
		assert.equal(readFileSync(join(lower, "file"), "utf8"), "content");
		await server.terminate();
	}
});
