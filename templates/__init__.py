"""Jinja templates for captions and reports, and their loader."""
