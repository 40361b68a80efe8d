"""ADA-SAM: segmentation from masks on a few slices and presence bits on the rest."""
