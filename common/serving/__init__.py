"""From a trained model to a prediction in a file: weights, inferers, NIfTI and DICOM."""
