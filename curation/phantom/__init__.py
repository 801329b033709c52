"""A synthetic study of two centers.

Anatomy, physics of the picture, files, records and planted defects.
"""
