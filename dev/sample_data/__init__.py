"""Sample tenants and usage: real airlines, and made-up ones for load."""
