"""Comparison of runs that were evaluated on the same frames."""
