"""ClusterRoles whose rules are the sum of others' (admin, edit, view)."""
