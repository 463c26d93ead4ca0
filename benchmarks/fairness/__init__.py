"""Benchmarks of fairness: how long a small tenant waits behind a large one."""
