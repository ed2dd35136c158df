"""The packages of a machine: `apt`, `apt-get`, `apt-cache` and `apt-mark` for kubeadm, kubelet, kubectl, cri-tools and kubernetes-cni.

What pkgs.k8s.io would serve for a minor line comes from the list of releases (`repository`); which lines a machine sees, its own
/etc/apt/sources.list.d says; what is installed and held is in /var/lib/dpkg/status, in dpkg's own format, so that the host's `dpkg -l` reads it too.
All other software of a machine is the host's, seen read-only: it is installed on the host.

A package's content is one file that says which release its program runs as (see `component_base.version`).
"""
