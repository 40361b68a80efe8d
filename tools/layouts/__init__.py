"""Data sets in the layouts of others, brought to ours, and ours brought to nnU-Net's."""
