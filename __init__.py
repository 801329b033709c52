"""From raw fetal ultrasound to a trustworthy image-text-mask data set, and on to a compact CLIP."""

__version__ = "0.1.0"
