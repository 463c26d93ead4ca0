"""Benchmarks of the outbox, compared with procrastinate among others."""
