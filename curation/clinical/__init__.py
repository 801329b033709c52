"""The meaning of clinical values: ages, dates, sizes, names and placeholders."""
