"""Deployments: rolling and recreating updates of ReplicaSets, revisions, progress (upstream's deployment controller)."""
