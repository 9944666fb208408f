"""Benchmarks that take minutes: each by its own command, none in `make bench`."""
