"""The audit log: who asked for what, what was decided, what was answered (upstream: apiserver's audit packages)."""
