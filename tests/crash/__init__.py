"""A run that is killed at any moment loses nothing and doubles nothing."""
