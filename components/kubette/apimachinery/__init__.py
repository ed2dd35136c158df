"""What every process knows about Kubernetes objects: pure, wire form in, wire form out (upstream's apimachinery)."""
