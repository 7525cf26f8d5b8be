"""History is asked for where it is missing, and lands once."""
