"""Spreading activation maps along what looks alike, to the borders of structures."""
