"""Pseudo labels from making to judging: opinions, storing, learning from them, showing them to a person."""
