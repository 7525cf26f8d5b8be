"""Tests of the recordings and of the servers that replay them."""
