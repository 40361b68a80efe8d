"""The one trainer of all bundles: which cases an epoch sees, progress, checkpoints, resumption."""
