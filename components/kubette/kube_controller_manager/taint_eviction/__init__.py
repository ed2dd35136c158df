"""Taint eviction: pods leave nodes whose NoExecute taints they do not (or no longer) tolerate."""
