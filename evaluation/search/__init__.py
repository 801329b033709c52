"""Search of a study's frames by words, by a picture, or by a region of one."""
