"""Features of a SAM for all slices of a volume, computed once and kept."""
