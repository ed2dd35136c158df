"""The `kubette` command: up, down, machine, ssh, status, logs, kubeconfig, list. `up` is nothing but machines, `kubeadm init` and `kubeadm join`."""
