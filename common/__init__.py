"""Shared parts of the label-efficient bundles; imported as `scripts.common` inside a bundle."""
