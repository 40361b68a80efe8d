"""Model files: their pickles, their TorchScript, and what else is in them."""
