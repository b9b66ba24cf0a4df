import { execFileSync } from "node:child_process";
import { plant } from "./lower-tree.ts";

/** A new git repository with so many files of a growing number of lines, none of them committed yet. Runs git in it. */
export function newRepository(repo: string, files: number): (...args: string[]) => void {
	plant(
		repo,
		Object.fromEntries(Array.from({ length: files }, (_, index) => [`file${index}.txt`, `contents of ${index}\n`.repeat(index + 1)])),
	);
	const environment = {
		PATH: process.env.PATH,
		HOME: "/nonexistent",
		GIT_CONFIG_GLOBAL: "/dev/null",
		GIT_AUTHOR_NAME: "a",
		GIT_AUTHOR_EMAIL: "a@example.org",
		GIT_COMMITTER_NAME: "a",
		GIT_COMMITTER_EMAIL: "a@example.org",
	};
	const git = (...args: string[]) => void execFileSync("git", ["-C", repo, ...args], { env: environment, stdio: "pipe" });
	git("init", "-q", "-b", "main");
	return git;
}
