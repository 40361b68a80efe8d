"""Registration packages of others, each in an environment that isn't ours."""
