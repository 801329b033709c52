"""The dataset: duplicates, exams, splits, the images table, statistics and plots."""
