// `holdfast handle`: explains a file handle that a client shows.

import type { Command } from "commander";
import { explainHandle, type HandleExplanation } from "../overlay/upkeep/explain.ts";
import { nameInJson } from "../vfs/names.ts";
import { addLayerOptions, type LayerArguments, namesLayers, openLayers } from "./layer-options.ts";
import { printJson, printLines } from "./print.ts";
import { ProgressLine } from "./progress.ts";
import { UserError } from "./user-error.ts";

interface HandleArguments extends LayerArguments {
	readonly json?: boolean;
}

const EXAMPLES = `

Examples:

  holdfast handle 0101010059ae26d800010108e8f70300000000004f2ba1c1d2b5a8f0
      What the bytes say.
  holdfast handle 0101010059ae26d800010108e8f70300000000004f2ba1c1d2b5a8f0 /srv/golden
      With the layers at hand: whether the signature is good (else the exit status is 1), which object it is, where it is now, or why it is stale.`;

export function addHandle(program: Command): void {
	const command = program
		.command("handle")
		.description("Explain a handle that a client holds. May run beside a server; nothing is changed.")
		.argument("<hex>", "the bytes of the handle in hex")
		.argument("[dir]", "the tree, as given to serve, or the name of its set");
	addLayerOptions(command, "later")
		.option("--json", "print one JSON object")
		.addHelpText("after", EXAMPLES)
		.action((hex: string, directory: string | undefined, given: HandleArguments) => handle(hex, directory, given));
}

async function handle(hex: string, directory: string | undefined, given: HandleArguments): Promise<void> {
	const digits = hex.replace(/^0x/i, "").replaceAll(":", "");
	if (!/^([0-9a-f]{2})+$/i.test(digits)) throw new UserError("A handle is given as an even number of hex digits.", 2);
	const opened = namesLayers(directory, given) ? openLayers(directory, given, "inspect", false) : null;
	try {
		const line = new ProgressLine();
		const explanation = await explainHandle(Buffer.from(digits, "hex"), opened).finally(() => line.end());
		if (explanation === null) throw new UserError("These bytes are no handle of holdfast: their length or shape is wrong.");
		if (given.json) printJson(inJson(explanation));
		else printLines(format(explanation));
		if (explanation.signature === "bad") throw new UserError("The signature is bad: this export has given out no such handle.");
	} finally {
		await opened?.overlay.close();
	}
}

const KEY_USES = {
	signs: "it signs",
	verifies: "it signed before, and verifies",
	waits: "it verifies, and has not signed yet",
	unknown: "this export has no such key, or it was dropped",
} as const;

function inJson({ object, ...rest }: HandleExplanation): object {
	return object === undefined ? rest : { ...rest, object: { ...object, paths: object.paths.map(nameInJson) } };
}

function format(explanation: HandleExplanation): string[] {
	const rows: [string, string][] = [
		["format", `${explanation.format}`],
		["provider", explanation.provider],
		["export", explanation.exportId],
		...(explanation.exportHandles === undefined ? [] : [["handles", explanation.exportHandles] as [string, string]]),
		["key", explanation.keyUse === undefined ? `${explanation.keyId}` : `${explanation.keyId} (${KEY_USES[explanation.keyUse]})`],
		["home", explanation.homeKind === undefined ? `${explanation.home}` : `${explanation.home} (${explanation.homeKind})`],
		["id", explanation.id === "" ? "none" : `type ${explanation.idType}, ${explanation.id}`],
		["signature", explanation.signature ?? "not checked: name the layers to check it"],
	];
	const { object } = explanation;
	if (object !== undefined) {
		rows.push(
			["object", `${object.type}, ${object.bytes} bytes, ${object.links} ${object.links === 1 ? "link" : "links"}`],
			["fileid", object.fileid],
			["now in", `${object.isUpper ? "upper" : "lower"} ${object.layer}`],
			...(object.paths.length > 0 ? object.paths : ["none: only its handle leads to it"]).map((path, i): [string, string] => [
				i === 0 ? "path" : "",
				path,
			]),
		);
	}
	if (explanation.stale !== undefined) rows.push(["stale", explanation.stale]);
	return rows.map(([name, value]) => `${name.padEnd(10)} ${value}`);
}
