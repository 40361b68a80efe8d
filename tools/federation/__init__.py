"""What is behind `python -m tools.federated_job`: the sites and their client."""
