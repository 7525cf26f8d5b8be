"""The vendors: one folder each, with `wire.py` (bytes to records, pure) and `client.py` (the I/O)."""
