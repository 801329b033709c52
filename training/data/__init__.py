"""Pairs of frames and captions: caches, sampling, augmentation, shards and streams."""
