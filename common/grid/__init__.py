"""The grid that all volumes of a data set are brought to, and the way back to each scan's own voxels."""
