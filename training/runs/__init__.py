"""The folder of a run: its description, log, saved state and environment."""
