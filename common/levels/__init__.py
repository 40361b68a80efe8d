"""Locate, then segment: a coarse network finds where to look, a fine one looks there."""
