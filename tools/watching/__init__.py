"""What is behind `python -m tools.watch`: where series come from, the model that is held, results, and the log."""
