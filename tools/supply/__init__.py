"""Where packages come from: pins with hashes, and sites without a network."""
