import { linkSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What all schemes are tried on: a tree with 100,000 files, and events that handles are to survive. */

/** Objects that each event happens to. */
export const SUBJECTS = 20;
const FOLDERS = 1000;
const FILES = 98;

/** The text of a file is what tells it from others. */
const textOf = (path) => `this is ${path}`;

/** 1,000 folders with 100 names each: 98 files, and two more names for files of the folder itself and of the one before. */
export function makeTree(lower, share = 1) {
	const folderOf = (number) =>
		join(lower, "tree", String(Math.floor(number / 100)), String(Math.floor(number / 10) % 10), `c${number % 10}`);
	const count = FOLDERS * share;
	for (let number = 0; number < count; number++) {
		const folder = folderOf(number);
		mkdirSync(folder, { recursive: true });
		for (let file = 0; file < FILES; file++) writeFileSync(join(folder, `file-${file}`), "");
		linkSync(join(folder, "file-0"), join(folder, "link-here"));
		linkSync(join(folderOf(Math.max(0, number - 1)), "file-1"), join(folder, "link-there"));
	}
	for (const { name } of events) {
		for (const kind of ["folders", "files"]) mkdirSync(join(lower, "events", name, "grand", "parent", kind), { recursive: true });
		const parent = `events/${name}/grand/parent`;
		for (let i = 0; i < SUBJECTS; i++) {
			const file = `${parent}/files/f${i}`;
			writeFileSync(join(lower, file), textOf(`/${file}`));
			linkSync(join(lower, file), join(lower, `${file}-unused`));
			writeFileSync(join(lower, `${parent}/files/single${i}`), textOf(`/${parent}/files/single${i}`));
			mkdirSync(join(lower, `${parent}/folders/d${i}`));
			writeFileSync(join(lower, `${parent}/folders/d${i}/.tag`), textOf(`/${parent}/folders/d${i}`));
		}
	}
}

/** Paths of one event. */
function placesOf(name) {
	const grand = `/events/${name}/grand`;
	const parent = `${grand}/parent`;
	return {
		grand,
		parent,
		single: (i) => `${parent}/files/single${i}`,
		linked: (i) => `${parent}/files/f${i}`,
		other: (i) => `${parent}/files/f${i}-unused`,
		folder: (i) => `${parent}/folders/d${i}`,
		made: (i) => `${parent}/files/made${i}`,
	};
}

const NEW = "something else";

/**
 * `of`: which object of a place has its handle taken. `before` makes it, if it is not of the lower. `each` happens to every object, `once`
 * to all of them. `now` is a path of it afterwards, by default the same, and null when it is gone. `text` is what it says then.
 */
export const events = [
	{ name: "nothing", of: "single" },
	{ name: "write", of: "single", each: (s, p, i) => s.write(p.single(i), NEW), text: NEW },
	{ name: "chmod", of: "single", each: (s, p, i) => s.chmod(p.single(i), 0o600) },
	{ name: "rename", of: "single", each: (s, p, i) => s.rename(p.single(i), `${p.single(i)}-new`), now: (p, i) => `${p.single(i)}-new` },
	{
		name: "rename-create",
		of: "single",
		async each(s, p, i) {
			await s.rename(p.single(i), `${p.single(i)}-new`);
			await s.create(p.single(i), NEW);
		},
		now: (p, i) => `${p.single(i)}-new`,
	},
	{
		name: "rename-parent",
		of: "single",
		once: (s, p) => s.rename(`${p.parent}/files`, `${p.parent}/new`),
		now: (p, i) => `${p.parent}/new/single${i}`,
	},
	{
		name: "rename-grandparent",
		of: "single",
		once: (s, p) => s.rename(p.parent, `${p.grand}/new`),
		now: (p, i) => `${p.grand}/new/files/single${i}`,
	},
	{
		name: "parent-replaced",
		of: "single",
		async once(s, p) {
			await s.rename(`${p.parent}/files`, `${p.parent}/new`);
			await s.mkdir(`${p.parent}/files`);
			for (let i = 0; i < SUBJECTS; i++) await s.create(p.single(i), NEW);
		},
		now: (p, i) => `${p.parent}/new/single${i}`,
	},
	{ name: "link-added", of: "single", each: (s, p, i) => s.link(p.single(i), `${p.single(i)}-new`) },
	{ name: "link-this-removed", of: "linked", each: (s, p, i) => s.unlink(p.linked(i)), now: (p, i) => p.other(i) },
	{ name: "link-other-removed", of: "linked", each: (s, p, i) => s.unlink(p.other(i)) },
	{ name: "link-other-written", of: "linked", each: (s, p, i) => s.write(p.other(i), NEW), text: NEW },
	{ name: "remove", of: "single", each: (s, p, i) => s.unlink(p.single(i)), now: null },
	{
		name: "write-remove",
		of: "single",
		async each(s, p, i) {
			await s.write(p.single(i), NEW);
			await s.unlink(p.single(i));
		},
		now: null,
	},
	{
		name: "remove-create",
		of: "single",
		async each(s, p, i) {
			await s.unlink(p.single(i));
			await s.create(p.single(i), NEW);
		},
		now: null,
	},
	{
		name: "made-rename",
		of: "made",
		before: (s, p, i) => s.create(p.made(i), textOf(p.made(i))),
		each: (s, p, i) => s.rename(p.made(i), `${p.made(i)}-new`),
		now: (p, i) => `${p.made(i)}-new`,
	},
	{
		name: "made-remove-create",
		of: "made",
		before: (s, p, i) => s.create(p.made(i), textOf(p.made(i))),
		async each(s, p, i) {
			await s.unlink(p.made(i));
			await s.create(p.made(i), NEW);
		},
		now: null,
	},
	{ name: "folder-copied-up", of: "folder", each: (s, p, i) => s.create(`${p.folder(i)}/new`, NEW) },
	{
		name: "folder-rename",
		of: "folder",
		each: (s, p, i) => s.rename(p.folder(i), `${p.folder(i)}-new`),
		now: (p, i) => `${p.folder(i)}-new`,
	},
	{
		name: "folder-rename-parent",
		of: "folder",
		once: (s, p) => s.rename(`${p.parent}/folders`, `${p.parent}/new`),
		now: (p, i) => `${p.parent}/new/d${i}`,
	},
	{
		name: "folder-replaced",
		of: "folder",
		async each(s, p, i) {
			await s.rename(p.folder(i), `${p.folder(i)}-new`);
			await s.mkdir(p.folder(i));
			await s.create(`${p.folder(i)}/.tag`, NEW);
		},
		now: (p, i) => `${p.folder(i)}-new`,
	},
].map((event) => ({ ...event, places: placesOf(event.name) }));

/** The path whose handle is taken, the path afterwards (null: it is gone), and what it says then. */
export function subjectOf(event, i) {
	const path = event.places[event.of](i);
	const now = event.now === undefined ? path : event.now === null ? null : event.now(event.places, i);
	return { path, now, text: event.text ?? textOf(path) };
}
