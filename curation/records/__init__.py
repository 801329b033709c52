"""Clinical records: tables of any shape to typed records, with gestational ages and plane
labels.
"""
