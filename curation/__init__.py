"""Readers, tables, quality, duplicates, de-identification, splits and statistics of raw
ultrasound.
"""
