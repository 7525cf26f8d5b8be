"""Contract checks: compiled, run, and held against past runs."""
