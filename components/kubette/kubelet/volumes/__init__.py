"""Volumes of a pod: directories under /var/lib/kubelet/pods/<uid>/volumes, made before its containers and kept up to date."""
