/** What `holdfast check` can find; docs/check.md tells of each what it means. */
export const FINDING_KINDS = [
	// the stack as a whole
	"work-incompatible",
	"change-interrupted",
	"lowers-differ",
	"upper-differs",
	"registry-unreadable",
	"index-of-another-upper",
	"upper-of-another-lower",
	// index entries
	"index-name-invalid",
	"index-foreign",
	"index-lower-gone",
	"index-tombstone-stale",
	"index-upper-invalid",
	"index-upper-gone",
	"index-type-differs",
	"index-names-another",
	"index-origin-missing",
	"index-orphan",
	"index-unnamed",
	// marks of upper objects
	"not-indexed",
	"indexed-as-gone",
	"origin-claimed-twice",
	"origin-gone",
	"origin-foreign",
	"origin-malformed",
	"origin-unknown",
	"base-damaged",
	"identity-not-believed",
	"impure-missing",
	"redirect-malformed",
	"redirect-nowhere",
	"redirect-missing",
	"redirect-double",
	"metacopy-without-data",
	"metacopy-not-noted",
	"inode-of-lower",
	"names-outside",
	// what shows too much, or hides nothing
	"whiteout-missing",
	"shown-twice",
	"merged-though-gone",
	"whiteout-of-nothing",
	"whiteout-not-honoured",
	"whiteout-with-data",
	// counts
	"link-count-malformed",
	"link-count-low",
	"link-record-stale",
	"link-record-wrong",
	"unnamed-record-stale",
	// work
	"record-damaged",
	"leftover",
	"long-redirect-stale",
	"data-record-stale",
	"partial-record-stale",
] as const;
/** What it can find of an export with portable handles, beside some of those. */
export const PORTABLE_FINDING_KINDS = ["id-missing", "id-not-linked", "id-place-wrong", "id-left-over"] as const;
export type PortableFindingKind = (typeof PORTABLE_FINDING_KINDS)[number];

export type FindingKind = (typeof FINDING_KINDS)[number] | PortableFindingKind;

/** A note says what is odd but harms nobody. */
export type Severity = "error" | "note";

export interface Finding {
	readonly kind: FindingKind;
	readonly severity: Severity;
	/** A path that begins with the part it lies in: `upper/`, `index/` or `work/`. */
	readonly path: string;
	/** One sentence. */
	readonly message: string;
	/** What --repair does about it; null where it takes a person. */
	readonly repair: string | null;
	/** "failed": the repair could not be made, and `failure` says why. */
	readonly outcome: "found" | "repaired" | "failed";
	readonly failure?: string;
}

/** Makes a repair: one system call that matters, or steps that can be made again. Throws OverlayError. */
export type Fix = () => void;

/** What a repair does, in words and in deed. */
export interface Remedy {
	readonly does: string;
	readonly make: Fix;
}

export interface Detected extends Omit<Finding, "outcome" | "failure" | "repair"> {
	/** Null where it takes a person. */
	readonly remedy: Remedy | null;
}

/** Findings of one pass. More than these are counted only: a damaged tree may have as many as it has files. */
const FINDINGS_MAX = 100_000;

export class Findings {
	readonly all: Detected[] = [];
	omitted = 0;

	add(finding: Detected): void {
		if (this.all.length < FINDINGS_MAX) this.all.push(finding);
		else this.omitted++;
	}
}
