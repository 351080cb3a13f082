"""Programs around the package; the benchmarks are importable for their shared pieces."""
