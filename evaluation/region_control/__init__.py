"""Region control: whether the answer of the model depends on the mask."""
