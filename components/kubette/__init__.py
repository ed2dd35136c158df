"""kubette: a small Kubernetes that behaves like a big one."""

__version__ = "0.1.0"
