"""Tenant and platform sessions in PostgreSQL, and the checks that keep them in their scope."""
