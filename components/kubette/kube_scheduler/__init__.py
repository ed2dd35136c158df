"""kube-scheduler: chooses a node for every pod that has none, and writes nothing but bindings, conditions and events."""
