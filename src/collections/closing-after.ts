// Closes what a piece of work has opened.

interface Resource {
	close(): void;
}

/** Gives `act` what keeps resources until it has ended, and then closes them, the last first. */
export function closingAfter<T>(act: (keep: <R extends Resource>(resource: R) => R) => T): T {
	const opened: Resource[] = [];
	try {
		return act((resource) => {
			opened.push(resource);
			return resource;
		});
	} finally {
		for (const resource of opened.reverse()) resource.close();
	}
}
