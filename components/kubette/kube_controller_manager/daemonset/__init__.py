"""DaemonSets: one pod on every node it fits."""
