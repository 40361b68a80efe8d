"""Images and maps alone, without files or training: prompts, activation maps, morphology."""
