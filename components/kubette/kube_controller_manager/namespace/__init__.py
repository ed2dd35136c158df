"""Namespaces going away: all their content is deleted, then their finalizer."""
