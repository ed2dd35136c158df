"""The cluster CA as the ConfigMap kube-root-ca.crt in every namespace: what pods trust the API server by."""
