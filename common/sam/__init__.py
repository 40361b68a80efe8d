"""Image encoders, prompt encoders and mask decoders of the Segment Anything family."""
