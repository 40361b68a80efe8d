"""Images and maps alone, without files or training: registration, prompts, activation maps, morphology."""
