"""The embedded PostgreSQL and Temporal dev server that a laptop needs."""
