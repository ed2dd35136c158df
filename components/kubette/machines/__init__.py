"""Machines out of Linux namespaces (what kind does with containers, and a hypervisor with virtual machines).

One *supervisor* process a cluster (`supervisor.py`) is the warm parent and the power switch of its machines. A machine is a set of
namespaces (`namespaces.py`) with its own root tree (`root_tree.py`), its own place on the cluster's switch (`network.py`) and its own
PID 1, forked out of the warm parent (`machine.py`). The *gateway* (`gateway.py`) is what a cloud gives to a cluster: an API load
balancer, routes to the pod networks and node ports on the host's loopback. Everything works as root and as an ordinary user; the
latter inside one user namespace. The other programs are known by name alone (console scripts), never by import.
"""
