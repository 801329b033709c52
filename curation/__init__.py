"""Read raw ultrasound, measure quality, find duplicates, de-identify, and split the dataset."""
