"""Pure: the in-tree plugins, one file each, with upstream's names and weights (upstream: pkg/scheduler/framework/plugins)."""
