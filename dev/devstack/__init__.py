"""Embedded PostgreSQL and Temporal dev servers for a laptop."""
