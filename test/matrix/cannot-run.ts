import { cannotCompare } from "../differential/campaign.ts";
import { needs } from "../support/requirements.ts";
import { cannotMount } from "../support/scratch.ts";

/** Why nothing of the matrix can run here; false when it can. */
export function cannotRun(): string | false {
	return needs("root") || cannotMount("ext4") || cannotMount("xfs") || cannotMount("btrfs") || cannotCompare();
}
