"""What is behind `python -m tools.learning_curve`: finished runs, and the curve through them."""
