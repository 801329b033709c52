"""Captions from records, and masks: proposed, imported, exported."""
