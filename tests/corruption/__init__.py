"""Planted faults, each found by the check meant for it."""
