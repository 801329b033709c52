"""Clinical records: read tables of any layout and join their rows to files."""
