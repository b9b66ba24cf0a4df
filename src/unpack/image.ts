// Finds an image's layers by its manifest: an OCI layout (OCI image specification, "Image Layout"), or what docker save wrote (Docker image specification 1.2).

import { IMAGE_ARCHITECTURE } from "../layer/image-architecture.ts";
import { showName } from "../vfs/names.ts";
import { type Digest, parseDigest, printDigest, verifyFile } from "./digest.ts";
import { type ImageFile, type ImageFiles, readWhole } from "./image-files.ts";
import { UnpackError } from "./unpack-error.ts";

/** What the user wants of it where it holds several. */
export interface ImageChoice {
	readonly name?: string | undefined;
	/** "os/architecture" or "os/architecture/variant". */
	readonly platform?: string | undefined;
}

export interface ImageLayer {
	/** Path in the image. */
	readonly path: string;
	/** Of the file, which may be compressed; null where no manifest says it. */
	readonly digest: Digest | null;
	readonly size: number | null;
	/** Of the tar archive. */
	readonly diffId: Digest;
}

interface Candidate {
	/** Candidates of one image have the same number: they are for different platforms. */
	readonly image: number;
	readonly names: readonly string[];
	readonly platform: string;
	layers(): Promise<ImageLayer[]>;
}

/** Unchecked, out of JSON. */
type Json = { readonly [key: string]: unknown };

const OCI_LAYOUT = "oci-layout";
const OCI_INDEX = "index.json";
const DOCKER_MANIFEST = "manifest.json";
const JSON_BYTES_MAX = 4 * 1024 * 1024;
const DESCRIPTORS_MAX = 2000;
const DEPTH_MAX = 8;
/** As many as Linux takes for one overlay. */
const LAYERS_MAX = 500;
const IMAGE_CONFIGS = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const LAYER_TYPE = /^application\/vnd\.(oci\.image\.layer|docker\.image\.rootfs)\.([a-z0-9]+\.)*tar(\.gzip|\+gzip|\+zstd)?$/;
const DAMAGED = "is damaged";
const FIRST_NAMES =
	/^(\.\/)?(oci-layout|index\.json|manifest\.json|repositories|blobs(\/.*)?|(sha256:)?[0-9a-f]{64}([./].*)?|config\.json)$/;

/** Whether an archive that begins with these names may be a whole image. */
export function looksLikeImage(names: readonly string[]): boolean {
	const first = names.find((name) => name !== "./" && name !== ".");
	return first !== undefined && FIRST_NAMES.test(first);
}

/** The layers from the base up; null where the files are no image. UnpackError where they are a damaged one, or several. */
export async function findLayers(files: ImageFiles, choice: ImageChoice): Promise<ImageLayer[] | null> {
	const isOci = has(files, OCI_LAYOUT) && has(files, OCI_INDEX);
	if (!isOci && !has(files, DOCKER_MANIFEST)) return null;
	const candidates = isOci ? await candidatesOfLayout(files) : await candidatesOfDocker(files);
	const layers = await choose(candidates, choice).layers();
	if (layers.length > LAYERS_MAX) throw new UnpackError(`it has more than ${LAYERS_MAX} layers, which Linux does not take`);
	return layers;
}

function has(files: ImageFiles, path: string): boolean {
	const file = files.open(path);
	file?.close();
	return file !== null;
}

async function candidatesOfLayout(files: ImageFiles): Promise<Candidate[]> {
	const found = new Map<string, Candidate>();
	const index = await readJson(files, OCI_INDEX, null, null);
	let descriptors = 0;
	let absent = 0;
	const visit = async (index: Json, image: number | null, names: readonly string[], depth: number) => {
		if (depth > DEPTH_MAX) throw new UnpackError(`its indexes lie in one another more than ${DEPTH_MAX} deep`);
		for (const [place, descriptor] of list(index.manifests, "index").entries()) {
			if (++descriptors > DESCRIPTORS_MAX) throw new UnpackError(`its indexes have more than ${DESCRIPTORS_MAX} entries`);
			const annotations = isObject(descriptor.annotations) ? descriptor.annotations : {};
			if (annotations["vnd.docker.reference.type"] === "attestation-manifest") continue;
			const all = [...names, ...namesOf(annotations)];
			const digest = parseDigest(descriptor.digest);
			// an index may list what was not saved with it
			if (!has(files, blobPath(digest))) {
				absent++;
				continue;
			}
			const json = await readJson(files, blobPath(digest), digest, descriptor.size);
			if (Array.isArray(json.manifests)) {
				await visit(json, image ?? place, [...all, printDigest(digest)], depth + 1);
				continue;
			}
			const config = object(json.config, "manifest");
			if (!IMAGE_CONFIGS.includes(`${config.mediaType}`)) continue;
			const known = found.get(printDigest(digest));
			const candidate = {
				image: known?.image ?? image ?? place,
				names: [...(known?.names ?? [printDigest(digest)]), ...all],
				platform: await platformOf(files, descriptor, config),
				layers: () => layersOfManifest(files, json),
			};
			found.set(printDigest(digest), candidate);
		}
	};
	await visit(index, null, [], 0);
	if (found.size === 0)
		throw new UnpackError(absent > 0 ? "the images that its index names are not in it" : "it holds no image of a container");
	return [...found.values()];
}

function namesOf(annotations: Json): string[] {
	return ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
		.map((key) => annotations[key])
		.filter((name) => typeof name === "string");
}

function blobPath({ algorithm, hex }: Digest): string {
	return `blobs/${algorithm}/${hex}`;
}

async function platformOf(files: ImageFiles, descriptor: Json, config: Json): Promise<string> {
	if (isObject(descriptor.platform)) return printPlatform(descriptor.platform);
	const digest = parseDigest(config.digest);
	return printPlatform(await readJson(files, blobPath(digest), digest, config.size));
}

function printPlatform({ os, architecture, variant }: Json): string {
	return [os, architecture, variant].filter((part) => typeof part === "string" && part !== "").join("/");
}

async function layersOfManifest(files: ImageFiles, manifest: Json): Promise<ImageLayer[]> {
	const config = object(manifest.config, "manifest");
	const configDigest = parseDigest(config.digest);
	const layers = list(manifest.layers, "manifest");
	const diffIds = diffIdsOf(await readJson(files, blobPath(configDigest), configDigest, config.size), layers.length);
	return layers.map((layer, place) => {
		if (typeof layer.mediaType !== "string" || !LAYER_TYPE.test(layer.mediaType)) {
			throw new UnpackError(`it has a layer of the kind "${showText(layer.mediaType)}", which is no tar archive that holdfast can read`);
		}
		const digest = parseDigest(layer.digest);
		return { path: blobPath(digest), digest, size: sizeOf(layer.size), diffId: diffIds[place] };
	});
}

function diffIdsOf(config: Json, count: number): Digest[] {
	const { diff_ids: given } = object(config.rootfs, "configuration");
	if (!Array.isArray(given) || given.length !== count)
		throw new UnpackError(`its configuration ${DAMAGED}: it is not of as many layers as its manifest`);
	return given.map(parseDigest);
}

async function candidatesOfDocker(files: ImageFiles): Promise<Candidate[]> {
	const images = list((await readJson(files, DOCKER_MANIFEST, null, null)).list, "manifest");
	if (images.length === 0) throw new UnpackError("it holds no image");
	if (images.length > DESCRIPTORS_MAX) throw new UnpackError(`it has more than ${DESCRIPTORS_MAX} images`);
	const candidates: Candidate[] = [];
	for (const [image, { Config: path, RepoTags: tags, Layers: layers }] of images.entries()) {
		if (typeof path !== "string" || !Array.isArray(layers)) throw new UnpackError(`its ${DOCKER_MANIFEST} ${DAMAGED}`);
		// the file is named by its digest
		const hex = /(?:^|\/|sha256:)([0-9a-f]{64})(?:\.json)?$/.exec(path)?.[1];
		const config = await readJson(files, pathIn(path), hex === undefined ? null : { algorithm: "sha256", hex }, null);
		candidates.push({
			image,
			names: [
				...(Array.isArray(tags) ? tags.filter((tag) => typeof tag === "string") : []),
				...(hex === undefined ? [] : [`sha256:${hex}`]),
			],
			platform: printPlatform(config),
			async layers() {
				const diffIds = diffIdsOf(config, layers.length);
				return layers.map((layer, place) => ({ path: pathIn(layer), digest: null, size: null, diffId: diffIds[place] }));
			},
		});
	}
	return candidates;
}

/** A path of a manifest, as the files are named by. */
function pathIn(path: unknown): string {
	if (typeof path !== "string" || path.split("/").includes("..")) throw new UnpackError(`its ${DOCKER_MANIFEST} names files outside of it`);
	return Buffer.from(path)
		.toString("latin1")
		.split("/")
		.filter((name) => name !== "" && name !== ".")
		.join("/");
}

/** Exactly one. */
function choose(candidates: readonly Candidate[], { name, platform }: ImageChoice): Candidate {
	const named = name === undefined ? candidates : candidates.filter(({ names }) => names.some((each) => isNamed(each, name)));
	if (named.length === 0) throw new UnpackError(`it has no image "${showText(name)}"; it has ${listNames(candidates)}`);
	if (new Set(named.map(({ image }) => image)).size > 1) {
		throw new UnpackError(`it holds several images; choose one by --image: ${listNames(named)}`);
	}
	const fitting = platform === undefined ? named : named.filter((each) => isOn(each.platform, platform));
	const host = `${process.platform}/${IMAGE_ARCHITECTURE}`;
	const chosen = fitting.length > 1 && platform === undefined ? fitting.filter((each) => isOn(each.platform, host)) : fitting;
	if (chosen.length === 1) return chosen[0];
	const platforms = [...new Set((chosen.length === 0 ? named : chosen).map((each) => showText(each.platform)))].join(", ");
	const why =
		platform === undefined
			? "it is for several platforms; choose one by --platform"
			: `none of it is for ${showText(platform)} alone; it is for`;
	throw new UnpackError(`${why}: ${platforms}`);
}

/** "alpine" and "alpine:3" are docker.io/library/alpine:3; what begins with "sha256:" may be the beginning of a digest. */
function isNamed(name: string, wanted: string): boolean {
	if (/^sha256:[0-9a-f]{8,}$/.test(wanted) && name.startsWith(wanted)) return true;
	const forms = [name, name.replace(/^docker\.io\//, ""), name.replace(/^docker\.io\/library\//, "")];
	return forms.some((form) => form === wanted || form.replace(/:[^:/]*$/, "") === wanted);
}

function isOn(platform: string, wanted: string): boolean {
	return platform === wanted || platform.startsWith(`${wanted}/`);
}

function listNames(candidates: readonly Candidate[]): string {
	const names = candidates.map(({ names }) => names.find((each) => !each.startsWith("sha256:")) ?? names[0] ?? "one without a name");
	const shown = [...new Set(names)].slice(0, 20).map(showText);
	return `${shown.join(", ")}${names.length > 20 ? " and more" : ""}`;
}

/** UnpackError unless it is there, is JSON, and has that digest and size. An array comes as `list`. */
async function readJson(files: ImageFiles, path: string, digest: Digest | null, size: unknown): Promise<Json> {
	const file = openFile(files, path);
	try {
		demandSize(file, sizeOf(size), path);
		if (digest !== null) await verifyFile(file, digest, `its file ${showText(path)}`, () => {});
		const parsed: unknown = JSON.parse((await readWhole(file, JSON_BYTES_MAX, showText(path))).toString());
		return Array.isArray(parsed) ? { list: parsed } : object(parsed, showText(path));
	} catch (error) {
		throw error instanceof SyntaxError ? new UnpackError(`its ${showText(path)} ${DAMAGED}: it is no JSON`) : error;
	} finally {
		file.close();
	}
}

/** UnpackError where there is none. */
export function openFile(files: ImageFiles, path: string): ImageFile {
	const file = files.open(path);
	if (file === null) throw new UnpackError(`it has no file ${showText(path)}, which its manifest names; it is not whole: get it again`);
	return file;
}

export function demandSize({ start, end }: ImageFile, size: number | null, path: string): void {
	if (size === null || end - start === size) return;
	throw new UnpackError(
		`its file ${showText(path)} has ${end - start} bytes, and its manifest says ${size}; it is damaged, or made to deceive: get it again`,
	);
}

function sizeOf(size: unknown): number | null {
	if (size === null) return null;
	if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) throw new UnpackError("its manifest has a size that cannot be");
	return size;
}

function isObject(value: unknown): value is Json {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

function object(value: unknown, where: string): Json {
	if (!isObject(value)) throw new UnpackError(`its ${where} ${DAMAGED}`);
	return value;
}

function list(value: unknown, where: string): readonly Json[] {
	if (!Array.isArray(value)) throw new UnpackError(`its ${where} ${DAMAGED}`);
	return value.map((each) => object(each, where));
}

function showText(text: unknown): string {
	return showName(Buffer.from(`${text}`.slice(0, 200)));
}
