"""Files to gray frames: images and DICOM, recognized by content, never trusted."""
