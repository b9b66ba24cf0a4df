/** Notes an entry as the most recent one of a Map that keeps at most `max` of them: what was noted longest ago goes. */
export function setRecent<K, V>(map: Map<K, V>, key: K, value: V, max: number): void {
	map.delete(key);
	map.set(key, value);
	if (map.size <= max) return;
	for (const [oldest] of map) {
		map.delete(oldest);
		return;
	}
}
