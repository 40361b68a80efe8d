"""From answers on slices to a volume: gates, boxes and masks that agree along the slices."""
