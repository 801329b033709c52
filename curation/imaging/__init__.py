"""One frame on its pixels: sector, quality, burned-in text, display modes, perceptual hash."""
