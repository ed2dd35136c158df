"""The Kubernetes API client machinery: kubeconfig, REST, reflector, informer, workqueue, controller, leader election, events (client-go's place).

Works against any API server. Knows no controller and no process; processes build on it and on nothing of each other.
"""
