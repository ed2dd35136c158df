"""Seeded clusters in one thread, under virtual time, network and disk."""
