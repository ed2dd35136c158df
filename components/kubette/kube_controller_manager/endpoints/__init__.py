"""Endpoints (core/v1) of services: the older form, one object a service."""
