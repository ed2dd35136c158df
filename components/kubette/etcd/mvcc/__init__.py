"""Pure: keys with history: revisions, transactions, compaction, watchers."""
