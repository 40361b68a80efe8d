"""What a method has to beat: a plain network of the labels alone, and the verdict on it."""
