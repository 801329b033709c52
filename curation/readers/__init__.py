"""Files to gray frames: images and DICOM, read by content, never trusted."""
