"""What is known beforehand of where structures lie, how large they are and which belong together."""
