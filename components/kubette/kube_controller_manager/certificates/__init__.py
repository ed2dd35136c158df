"""Certificate signing requests: approval of kubelet clients, signing, cleaning."""
