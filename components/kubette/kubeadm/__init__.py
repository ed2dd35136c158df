"""kubeadm: makes a machine a control plane or a worker, in idempotent phases.

It knows the other programs by command line, manifest and certificate alone; it talks to the cluster through the API server like any
other client, and to etcd through its API when a control plane joins.
"""
