"""WeakMedSAM: segmentation from one bit per slice and label."""
