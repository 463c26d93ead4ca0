"""Benchmarks of isolation: the cost of the checks that separate tenants."""
