"""Probes: what the frozen features of an image encoder contain."""
