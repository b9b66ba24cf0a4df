// Who made a client id or session: nobody else may end it (RFC 8881 section 2.10.8.3).

import type { Caller } from "../rpc/caller.ts";

export function principalOf({ flavor, user }: Caller): string {
	return user === null ? `${flavor}` : `${flavor} ${user.uid}`;
}
