"""Seeded schedules of faults and kills against a capture that runs as a process, and what has to be true after each."""
