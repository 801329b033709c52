"""Captions that a language model has rephrased, and the check that they state the same."""
