"""What a value means, wherever it was written: ages, dates, sizes, names, placeholders."""
