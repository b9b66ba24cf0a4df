// What a mount is to be like: its options as they are typed, as mount(2) takes them, and as fusermount3 does.

import { MS } from "../linux/mount.ts";

/** What `-o` may say. */
export interface MountOptions {
	readonly isReadOnly: boolean;
	/** Users other than the one who mounts may use it. */
	readonly allowsOther: boolean;
	readonly isNodev: boolean;
	readonly isNosuid: boolean;
}

export interface MountRequest extends MountOptions {
	/** Absolute, without symbolic links above its last name. */
	readonly point: string;
	/** The name of the export: what mount(8) and df(1) show as the device. */
	readonly source: string;
}

/** As mount(8) and fusermount3 have them. */
const KNOWN: Readonly<Record<string, keyof MountOptions>> = {
	ro: "isReadOnly",
	allow_other: "allowsOther",
	nodev: "isNodev",
	nosuid: "isNosuid",
};

/** From the values of all `-o`: several options in one have commas between them. Error: a sentence for the user. */
export function parseMountOptions(values: readonly string[]): MountOptions {
	const options = { isReadOnly: false, allowsOther: false, isNodev: false, isNosuid: false };
	for (const word of values.flatMap((value) => value.split(","))) {
		if (!Object.hasOwn(KNOWN, word)) throw new Error(`Options of a mount are ${Object.keys(KNOWN).join(", ")}, with commas between.`);
		const name = KNOWN[word];
		if (options[name]) throw new Error(`The option ${word} of a mount is given twice.`);
		options[name] = true;
	}
	return options;
}

/** The mount table has all mounts of ours under this type. */
export const MOUNT_TYPE = "fuse.holdfast";
const SUBTYPE = "holdfast";

/** The flags of mount(2). */
export function mountFlags({ isReadOnly, isNodev, isNosuid }: MountOptions): number {
	return (isReadOnly ? MS.rdonly : 0) | (isNodev ? MS.nodev : 0) | (isNosuid ? MS.nosuid : 0);
}

/**
 * The data of mount(2). The kernel checks permissions itself: a request of FUSE does not say in which groups its user is.
 * `descriptor`: an open /dev/fuse.
 */
export function mountData(descriptor: number, { allowsOther }: MountOptions): string {
	const owner = `user_id=${process.geteuid?.() ?? 0},group_id=${process.getegid?.() ?? 0}`;
	return `fd=${descriptor},rootmode=40000,${owner},default_permissions${allowsOther ? ",allow_other" : ""}`;
}

/** What `fusermount3 -o` takes, which sees a comma or a backslash of a value as its own unless a backslash stands before it. */
export function fusermountOptions(request: MountRequest): string {
	const wanted = Object.keys(KNOWN).filter((word) => request[KNOWN[word]]);
	return [`fsname=${request.source.replace(/[\\,]/g, "\\$&")}`, `subtype=${SUBTYPE}`, "default_permissions", ...wanted].join(",");
}
