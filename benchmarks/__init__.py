"""Benchmarks: ratios of two things timed in turn in one run; `make bench` prints one table and writes it as JSON."""
