"""What annotation costs, what it brought where it was measured, and what follows for a data set."""
