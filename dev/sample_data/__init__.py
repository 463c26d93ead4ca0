"""Tenants and usage to try the reference SaaS with: real airlines, and made-up ones for load."""
