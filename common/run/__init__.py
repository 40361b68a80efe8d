"""One run: what it was made of, on which machine, at what cost, and what may leave the house."""
