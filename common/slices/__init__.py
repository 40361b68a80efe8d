"""What only slices know: presence bits and masks of a few slices, as volumes, and the way from slice to slice."""
