"""Benchmarks of fan-outs: their throughput, and what slows them down."""
