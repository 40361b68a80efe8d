"""The network of one slice: ADA-SAM with its classifier, prompts, decoder and gradient feedback."""
