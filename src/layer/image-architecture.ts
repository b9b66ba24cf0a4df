// What images of containers call the architecture of this machine.

/** Where they have another name than Node.js. */
const NAMES: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le", mips64el: "mips64le" };

export const IMAGE_ARCHITECTURE = NAMES[process.arch] ?? process.arch;
