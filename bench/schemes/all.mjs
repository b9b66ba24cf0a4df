/** The schemes, by the names that they have in cases. Each is loaded only when it is used. */
export const schemes = {
	reserved: {
		title: "(a) reserved inode",
		open: async (layers) => new (await import("./reserved.mjs")).Reserved(layers),
	},
	path: {
		title: "(b) path regenerated",
		open: async (layers) => new (await import("./by-path.mjs")).ByPath(layers),
	},
	"path-compared": {
		title: "(b) and origin compared",
		open: async (layers) => new (await import("./by-path.mjs")).ByPath(layers, { compares: true }),
	},
	map: {
		title: "(c) both, and a map",
		open: async (layers) => new (await import("./by-map.mjs")).ByMap(layers),
	},
	"holdfast-kernel": {
		title: "(d) holdfast, kernel",
		open: (layers) => holdfast(layers, { handles: "kernel" }),
	},
	"holdfast-portable": {
		title: "(e) holdfast, portable",
		/** Names of one file are objects of their own. */
		namesAreApart: true,
		open: (layers) => holdfast(layers, { handles: "portable", linkNames: false }),
	},
	"holdfast-portable-links": {
		title: "(e) with --link-names",
		open: (layers) => holdfast(layers, { handles: "portable", linkNames: true }),
	},
};

async function holdfast(layers, options) {
	return new (await import("./holdfast.mjs")).Holdfast(layers, options);
}
