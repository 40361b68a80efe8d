"""A first label without training: what the nearest labelled slices show, brought to each slice and asked of a SAM."""
