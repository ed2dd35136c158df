"""EndpointSlices of services: what kube-proxy and DNS read."""
