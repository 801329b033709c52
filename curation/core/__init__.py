"""Errors, settings, tables, the workspace, geometry and workers: what every other package may import."""
