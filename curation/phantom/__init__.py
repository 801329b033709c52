"""A synthetic study of two centers: anatomy, physics of the picture, files, records and planted defects."""
