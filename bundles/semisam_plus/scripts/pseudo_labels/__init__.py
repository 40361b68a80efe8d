"""Pseudo labels of the unlabelled cases: from registration, from a first network, or of both."""
