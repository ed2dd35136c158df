"""The phases of init, join and reset: each idempotent, each one file.

A phase gets a `Context` (what to build, where, with which connection) and prints upstream's progress lines.
"""
