"""A synthetic study of two centers.

It has anatomy, imaging physics, files, records and planted defects.
"""
