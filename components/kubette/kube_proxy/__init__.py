"""kube-proxy: makes Service addresses work on its machine, by iptables rules or, where that program is missing, in userspace."""
