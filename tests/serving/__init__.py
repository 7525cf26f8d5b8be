"""Answers from the lake."""
