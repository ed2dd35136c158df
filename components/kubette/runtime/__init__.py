"""The embedded container runtime: a CRI server in containerd's place, with containers as transient units of the machine's init.

`app` wires it; `service` and `image_service` are the two gRPC services; `sandboxes`, `containers` and `images` keep what exists;
`launcher` (kubette-runc) turns a unit into a container; `streaming` carries exec, attach and port-forward. Pods need no process
of this package to live on: the sandbox's namespaces belong to its pause process, pipes and exit codes to init.
"""
