"""Measurements on real data; nothing here is needed to train or serve a bundle."""
