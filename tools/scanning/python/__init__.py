"""The Python of a bundle: what its files define, import from each other and use from outside."""
