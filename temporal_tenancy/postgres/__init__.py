"""A tenant's session in PostgreSQL, and what holds it to its tenant."""
