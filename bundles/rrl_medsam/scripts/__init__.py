"""RRL-MedSAM: one labelled volume, many unlabelled ones."""
