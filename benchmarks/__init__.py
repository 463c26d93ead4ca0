"""The benchmarks behind `make bench`: each module answers one question, beside a peer."""
