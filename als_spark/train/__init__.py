"""The training loop on any backend: start, half-steps, stopping, grid, records."""
