"""A folder of DICOM files, or one of many frames, as one volume."""
