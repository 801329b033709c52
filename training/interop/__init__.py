"""Import and export of models and weights of other projects."""
