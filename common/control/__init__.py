"""A plain network of the labels alone, trained beside the method: what the method has to beat."""
