"""The frozen generalists: asking them, trusting them, and keeping what they answer."""
