"""Metrics and intervals as functions of arrays."""
