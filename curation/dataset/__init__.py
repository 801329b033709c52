"""The whole set of frames: duplicates, exams, splits, the images table, statistics and plots."""
