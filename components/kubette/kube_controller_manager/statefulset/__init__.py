"""StatefulSets: pods with an identity and an order."""
