"""A segmenter that learns from accepted masks: model, examples, training, proposals."""
