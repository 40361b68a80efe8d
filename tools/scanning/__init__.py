"""What is behind `python -m tools.scan`: reading configs, Python and models without executing them."""
