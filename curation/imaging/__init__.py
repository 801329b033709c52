"""Analysis of one frame's pixels: sector, quality, burned-in text, display modes and hash."""
