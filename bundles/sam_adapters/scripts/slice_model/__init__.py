"""A frozen SAM with trained parts behind its features, which segments slices of all classes at once."""
