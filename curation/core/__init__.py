"""Errors, settings, tables, the workspace, geometry and workers, for every other package."""
