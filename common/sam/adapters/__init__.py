"""Training a few tensors of a large frozen network, and keeping only these."""
