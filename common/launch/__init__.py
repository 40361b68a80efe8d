"""What the command line hands over, read once before anything starts."""
