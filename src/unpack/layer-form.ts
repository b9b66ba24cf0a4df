// The two forms of an unpacked layer: the superuser's, with real owners and devices, and an ordinary user's, with xattrs in their place.

import { type OverlayXattrs, TRUSTED_XATTRS, USER_XATTRS } from "../layer/layer.ts";
import { KeptRights, OVERRIDE_XATTR, REAL_RIGHTS, type Rights } from "../layer/rights.ts";

export interface LayerForm {
	readonly rights: Rights;
	readonly xattr: OverlayXattrs;
	/** Whiteouts are empty files with an xattr, in directories whose `opaque` is "x". */
	readonly hasXattrWhiteouts: boolean;
	/** Xattrs that an archive may not set, since they would stand for something else. */
	readonly reserved: readonly string[];
	/** What the process may not set is left out, with a note. */
	readonly isForgiving: boolean;
}

/** For serve by root, and for the kernel. */
export const REAL_FORM: LayerForm = {
	rights: REAL_RIGHTS,
	xattr: TRUSTED_XATTRS,
	hasXattrWhiteouts: false,
	reserved: [],
	isForgiving: false,
};

/** For serve --fake-root. */
export function fakeRootForm(): LayerForm {
	return {
		rights: new KeptRights(true, process.geteuid?.() ?? 0, process.getegid?.() ?? 0),
		xattr: USER_XATTRS,
		hasXattrWhiteouts: true,
		reserved: [OVERRIDE_XATTR],
		isForgiving: true,
	};
}
