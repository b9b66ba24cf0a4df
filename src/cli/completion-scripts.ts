// Completion for bash, zsh and fish, from the tree of commands.

import { allCommands, type DescribedCommand, type DescribedOption, type WordKind } from "./command-tree.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

export function completionScript(shell: Shell, program: DescribedCommand): string {
	// a tab is odd where it is printed
	return { bash, zsh, fish }[shell](program).replaceAll("\t", "  ");
}

/** What may stand where a command's words go: that of its first argument that is not "other". */
function wordKind({ arguments: all }: DescribedCommand): WordKind {
	return all.find(({ kind }) => kind !== "other")?.kind ?? "other";
}

function isWords(kind: WordKind): kind is readonly string[] {
	return typeof kind !== "string";
}

/** What prints the names of sets, one in a line, while a word is completed. */
const NAMES = "list --names 2>/dev/null";

function bash(program: DescribedCommand): string {
	const lines = [`# bash completion for ${program.name}, made by \`${program.name} completion bash\``, ""];
	const generate = (kind: WordKind) => {
		if (isWords(kind)) return `words="${kind.join(" ")}"`;
		if (kind === "other") return "return";
		const names = `words=$("\${COMP_WORDS[0]}" ${NAMES})`;
		if (kind === "set") return `${names}; [[ -n $words ]] || return`;
		return kind === "tree" ? `files=-d ${names}` : `files=-${kind === "file" ? "f" : "d"}`;
	};
	lines.push(
		`_${program.name}() {`,
		`\tlocal cur=\${COMP_WORDS[COMP_CWORD]} prev="" words="" files="" command="" i`,
		"\tCOMPREPLY=()",
		`\t((COMP_CWORD > 0)) && prev=\${COMP_WORDS[COMP_CWORD - 1]}`,
		"\t# the words that call a command stand before all others",
		"\tfor ((i = 1; i < COMP_CWORD; i++)); do",
		`\t\tcase "$command \${COMP_WORDS[i]}" in`,
		...allCommands(program)
			.filter(({ words }) => words.length > 0)
			.map(({ words }) => `\t\t"${["", ...words].join(" ")}") command=" ${words.join(" ")}" ;;`),
		"\t\t*) break ;;",
		"\t\tesac",
		"\tdone",
		`\tcase "$command" in`,
	);
	for (const { words, command } of allCommands(program)) {
		lines.push(`\t"${words.length === 0 ? "" : ` ${words.join(" ")}`}")`);
		const valued = command.options.filter(({ value }) => value !== null);
		if (valued.length > 0) {
			lines.push("\t\tcase $prev in");
			for (const { names, kind } of valued) lines.push(`\t\t${names.join(" | ")}) ${generate(kind)} ;;`);
			lines.push("\t\tesac");
		}
		const options = command.options.flatMap(({ names }) => names).join(" ");
		const own = command.commands.length > 0 ? `words="${command.commands.map(({ name }) => name).join(" ")}"` : generate(wordKind(command));
		lines.push(
			"\t\tif [[ -z $words$files ]]; then",
			`\t\t\tif [[ $cur == -* ]]; then words="${options}"; else ${own === "return" ? ":" : own}; fi`,
			"\t\tfi",
			"\t\t;;",
		);
	}
	lines.push(
		"\tesac",
		'\tmapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")',
		"\tif [[ -n $files ]]; then",
		"\t\tcompopt -o filenames 2>/dev/null",
		`\t\tmapfile -t -O "\${#COMPREPLY[@]}" COMPREPLY < <(compgen "$files" -- "$cur")`,
		"\tfi",
		"}",
		`complete -F _${program.name} ${program.name}`,
		"",
	);
	return lines.join("\n");
}

/** Within single quotes. */
function quote(text: string): string {
	return `'${text.replaceAll("'", "'\\''")}'`;
}

function zsh(program: DescribedCommand): string {
	const actions = { other: "", file: "_files", directory: "_files -/", set: `_${program.name}-sets`, tree: `_${program.name}-trees` };
	const action = (kind: WordKind) => (isWords(kind) ? `(${kind.join(" ")})` : actions[kind]);
	const escaped = (text: string) => text.replace(/[[\]:\\]/g, "\\$&");
	const spec = ({ names, value, kind, isRepeatable, description }: DescribedOption) =>
		names.map((name) =>
			quote(`${isRepeatable ? "*" : ""}${name}[${escaped(description)}]${value === null ? "" : `:${escaped(value)}:${action(kind)}`}`),
		);
	const lines = [`#compdef ${program.name}`, `# zsh completion for ${program.name}, made by \`${program.name} completion zsh\``, ""];
	lines.push(
		// no command is of such a name
		`_${program.name}-sets() {`,
		"\tlocal -a names",
		`\tnames=(\${(f)"$(_call_program sets ${program.name} ${NAMES})"})`,
		'\tcompadd "$@" -a names',
		"}",
		"",
		`_${program.name}-trees() { _alternative "sets:set:_${program.name}-sets" "directories:directory:_files -/" }`,
		"",
	);
	for (const { words, command } of [...allCommands(program)].reverse()) {
		const options = command.options.flatMap(spec).map((one) => `\t\t${one}`);
		lines.push(`_${[program.name, ...words].join("_")}() {`);
		if (command.commands.length > 0) {
			lines.push(
				"\tif ((CURRENT > 2)); then",
				"\t\tlocal command=$words[2]",
				"\t\tshift words",
				"\t\t((CURRENT--))",
				`\t\t(($+functions[_${[program.name, ...words].join("_")}_$command])) && _${[program.name, ...words].join("_")}_$command`,
				"\t\treturn",
				"\tfi",
				"\tlocal -a commands",
				"\tcommands=(",
				...command.commands.map(({ name, description }) => `\t\t${quote(`${name}:${escaped(description)}`)}`),
				"\t)",
				"\t_describe -t commands command commands",
			);
		}
		const rest = command.commands.length > 0 ? [] : [`\t\t${quote(`*:word:${action(wordKind(command))}`)}`];
		lines.push("\t_arguments \\", [...options, ...rest].join(" \\\n"), "}", "");
	}
	lines.push(
		"# sourced, or found on fpath and called",
		`if [[ $funcstack[1] == _${program.name} ]]; then _${program.name} "$@"; else compdef _${program.name} ${program.name}; fi`,
		"",
	);
	return lines.join("\n");
}

function fish(program: DescribedCommand): string {
	const lines = [`# fish completion for ${program.name}, made by \`${program.name} completion fish\``, `complete -c ${program.name} -f`];
	const sets = `(command -q ${program.name}; and ${program.name} ${NAMES})`;
	const directories = "(__fish_complete_directories)";
	const list = (kind: readonly string[] | "directory" | "set" | "tree") =>
		`-a ${quote(isWords(kind) ? kind.join(" ") : { directory: directories, set: sets, tree: `${sets} ${directories}` }[kind])}`;
	const words = (kind: WordKind) => (kind === "other" ? "-x" : kind === "file" ? "-r -F" : `-x ${list(kind)}`);
	for (const { words: path, command } of allCommands(program)) {
		const inside = path.map((word) => `__fish_seen_subcommand_from ${word}`);
		const below = command.commands.map(({ name }) => name);
		const outside = below.length === 0 ? [] : [`not __fish_seen_subcommand_from ${below.join(" ")}`];
		const when = `-n ${quote([...inside, ...outside].join("; and "))}`;
		const start = `complete -c ${program.name} ${when}`;
		for (const { name, description } of command.commands) lines.push(`${start} -a ${name} -d ${quote(description)}`);
		const kind = wordKind(command);
		if (below.length === 0 && kind !== "other") lines.push(`${start} ${kind === "file" ? "-F" : list(kind)}`);
		for (const { names, value, kind, description } of command.options) {
			const named = names.map((name) => (name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(" ");
			lines.push(`${start} ${named}${value === null ? "" : ` ${words(kind)}`} -d ${quote(description)}`);
		}
	}
	return `${lines.join("\n")}\n`;
}
