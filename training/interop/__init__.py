"""Weights and models of other projects, in and out."""
