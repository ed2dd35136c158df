"""Bootstrap tokens: the signed cluster-info that `kubeadm join` trusts, and the end of expired tokens."""
