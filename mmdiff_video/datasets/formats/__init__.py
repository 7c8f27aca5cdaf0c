"""File layouts of data sets, reader and writer of each side by side."""
