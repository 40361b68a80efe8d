"""The networks of the family in 2D, each under the parameter names of its published weights."""
