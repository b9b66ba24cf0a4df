// The folder in which claims are kept, and the two small files in it that are always written as a whole: `server` and `clients`.

import { chmodSync, fsync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { syncFile, writeFrom } from "../linux/data.ts";
import { ERRNO, whyNot } from "../linux/errno.ts";
import { renameName, unlinkName } from "../linux/names.ts";
import { close, O, openAt, openPath } from "../linux/open.ts";
import { showName } from "../vfs/names.ts";
import { describeFailure } from "../vfs/system-errors.ts";
import { ClaimFilesError } from "./errors.ts";

const FOLDER_MODE = 0o700;
const FILE_MODE = 0o600;
/** Magic and version before what a file says, a checksum behind it. */
const HEAD_BYTES = 8;
const CRC_BYTES = 4;

export interface FileForm {
	readonly name: string;
	readonly magic: string;
	readonly version: number;
	/** What to do where the file cannot be used. */
	readonly remedy: string;
}

export class ClaimFolder {
	readonly path: string;
	/** Of the folder. */
	readonly fd: number;
	#isClosed = false;

	/** Makes the folder, or takes its rights for others away. ClaimFilesError where it cannot be used. */
	constructor(path: string) {
		this.path = path;
		try {
			mkdirSync(path, { recursive: true, mode: FOLDER_MODE });
			if ((statSync(path).mode & 0o777) !== FOLDER_MODE) chmodSync(path, FOLDER_MODE);
		} catch (error) {
			throw new ClaimFilesError(`${describeFailure(error) ?? (error as Error).message}. What clients have open and locked is kept there.`);
		}
		this.fd = openPath(path, O.rdonly | O.directory);
		if (this.fd < 0) throw this.failure("open", "", this.fd);
	}

	/** What is under way changes nothing any more. */
	close(): void {
		if (this.#isClosed) return;
		this.#isClosed = true;
		close(this.fd);
	}

	shown(name: string): string {
		return showName(Buffer.from(join(this.path, name)));
	}

	/** A system call on a file of the folder has failed. */
	failure(verb: string, name: string, error: number): ClaimFilesError {
		return new ClaimFilesError(`Cannot ${verb} ${this.shown(name)}: ${whyNot(error, join(this.path, name))}.`, error);
	}

	/** Its descriptor; null where there is no such file. */
	open(name: string, flags: number): number | null {
		this.#demandOpen();
		const fd = openAt(this.fd, name, flags | O.nofollow, FILE_MODE);
		if (fd === -ERRNO.ENOENT) return null;
		if (fd < 0) throw this.failure("open", name, fd);
		return fd;
	}

	/** A file that is new, whatever had the name. */
	make(name: string): number {
		this.#demandOpen();
		const gone = unlinkName(this.fd, name);
		if (gone < 0 && gone !== -ERRNO.ENOENT) throw this.failure("remove", name, gone);
		return this.open(name, O.rdwr | O.creat | O.excl) as number;
	}

	/** The whole file; null where there is none. */
	read(name: string): Buffer | null {
		const fd = this.open(name, O.rdonly);
		if (fd === null) return null;
		try {
			return readFileSync(fd);
		} catch (error) {
			throw this.failure("read", name, (error as NodeJS.ErrnoException).errno ?? 0);
		} finally {
			close(fd);
		}
	}

	rename(from: string, to: string): void {
		this.#demandOpen();
		const status = renameName(this.fd, from, this.fd, to);
		if (status < 0) throw this.failure("rename", from, status);
	}

	remove(name: string): void {
		if (!this.#isClosed) unlinkName(this.fd, name);
	}

	#demandOpen(): void {
		if (this.#isClosed) throw new ClaimFilesError(`${this.shown("")} is closed.`);
	}

	/** What the file says; null where there is none. ClaimFilesError where it is damaged, or of a version that is not known here. */
	readForm({ name, magic, version, remedy }: FileForm): Buffer | null {
		const bytes = this.read(name);
		if (bytes === null) return null;
		const end = bytes.length - CRC_BYTES;
		const isWhole = end >= HEAD_BYTES && crc32(bytes.subarray(0, end)) === bytes.readUInt32BE(end);
		if (!isWhole || bytes.toString("latin1", 0, 4) !== magic)
			throw new ClaimFilesError(`Cannot use ${this.shown(name)}: it is damaged. ${remedy}`);
		const found = bytes.readUInt32BE(4);
		if (found !== version) {
			throw new ClaimFilesError(
				`Cannot use ${this.shown(name)}: it is of version ${found}, and this holdfast knows version ${version}. ${remedy}`,
			);
		}
		return bytes.subarray(HEAD_BYTES, end);
	}

	/** What is found under the name, if anything, is on disk when this returns: an earlier process may have been killed before it was. */
	flushNow(name: string): void {
		const fd = this.open(name, O.rdonly);
		if (fd === null) return;
		const status = syncFile(fd);
		close(fd);
		const named = syncFile(this.fd);
		if (status < 0 || named < 0) throw this.failure("flush", name, Math.min(status, named));
	}

	/** Puts the file in the place of the last one. It is on disk when this returns. For a start: it waits for the disk. */
	replaceNow(form: FileForm, content: Uint8Array): void {
		const fd = this.#writeNew(form, content);
		const status = syncFile(fd);
		close(fd);
		if (status < 0) throw this.failure("flush", form.name, status);
		this.rename(newName(form), form.name);
		const flushed = syncFile(this.fd);
		if (flushed < 0) throw this.failure("flush", form.name, flushed);
	}

	/** The same without waiting in this thread. Nothing was replaced where it rejects before the rename. */
	async replace(form: FileForm, content: Uint8Array): Promise<void> {
		const fd = this.#writeNew(form, content);
		try {
			await flushed(fd);
		} finally {
			close(fd);
		}
		this.rename(newName(form), form.name);
		await flushed(this.fd);
	}

	#writeNew(form: FileForm, content: Uint8Array): number {
		const head = Buffer.alloc(HEAD_BYTES);
		head.write(form.magic, "latin1");
		head.writeUInt32BE(form.version, 4);
		const crc = Buffer.alloc(CRC_BYTES);
		crc.writeUInt32BE(crc32(content, crc32(head)));
		const bytes = Buffer.concat([head, content, crc]);
		const fd = this.make(newName(form));
		const written = writeFrom(fd, bytes, 0);
		if (written === bytes.length) return fd;
		close(fd);
		throw this.failure("write", newName(form), written < 0 ? written : -ERRNO.ENOSPC);
	}
}

/** What was written to the descriptor is on disk; rejects with what Node says. */
export function flushed(fd: number): Promise<void> {
	return new Promise((resolve, reject) => {
		fsync(fd, (error) => (error === null ? resolve() : reject(error)));
	});
}

function newName({ name }: FileForm): string {
	return `${name}.new`;
}
