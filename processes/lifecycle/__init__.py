"""A process's start, readiness, health and shutdown."""
