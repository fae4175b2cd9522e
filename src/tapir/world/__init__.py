"""The embedded world: verifiable tasks, a programmatic teacher and judge, and a tiny student. No key, no download."""
