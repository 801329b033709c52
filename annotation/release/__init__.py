"""A study as a data set that other tools load: its samples, the layouts, and the data card."""
