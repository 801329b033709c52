"""Studies from a picture archive over DICOMweb (DICOM PS3.18)."""
