"""What only slices know: presence bits and masks of a few slices, as volumes."""
