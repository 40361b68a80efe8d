"""Which scan is labelled: what registrations to the others tell of each, before any label is seen."""
