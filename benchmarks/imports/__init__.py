"""Benchmarks of contact imports: throughput and memory."""
