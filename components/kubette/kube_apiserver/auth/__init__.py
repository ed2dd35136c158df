"""Who asks (authenticators) and whether they may (authorizers)."""
