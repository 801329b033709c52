"""Errors, settings, tables, the workspace, geometry and workers.

What every other package may import.
"""
