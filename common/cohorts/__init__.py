"""Who is labelled in a data set, on which grid."""
