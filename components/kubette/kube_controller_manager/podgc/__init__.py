"""Pods nobody else will delete: of nodes that are gone, unscheduled and deleted, or finished long ago."""
