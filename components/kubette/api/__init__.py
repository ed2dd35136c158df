"""The built-in kinds as data."""
