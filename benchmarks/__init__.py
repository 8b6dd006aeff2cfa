"""What errata costs, beside its peers: `scripts/bench`, or `python -m benchmarks`."""
