"""What a server puts into the cluster when it starts, and keeps there (upstream's post-start hooks)."""
