"""Metrics, zero-shot classification, controls and the report."""
