"""Weights of other projects: read as tensors only, checked, loaded by name."""
