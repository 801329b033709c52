"""The loss functions and what they compare."""
