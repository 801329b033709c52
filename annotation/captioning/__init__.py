"""Commands on captions and planes, and their reports."""
