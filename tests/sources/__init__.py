"""Tests of the vendors' parsers and clients."""
