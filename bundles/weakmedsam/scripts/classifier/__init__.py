"""The classifier of slices whose maps say where a label is, and its sub-classes."""
