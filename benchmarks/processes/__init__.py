"""Benchmarks of processes: workers under load, the HTTP door with many connections."""
