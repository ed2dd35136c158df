"""Subresources and kinds that are only answered: one table, `(resource, subresource, verb) → handler`, built by `table`."""
