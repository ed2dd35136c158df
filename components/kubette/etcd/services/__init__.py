"""What the RPCs mean: one module a service. They check requests as upstream does, and know nothing of HTTP."""
