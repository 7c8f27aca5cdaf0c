"""How data lies on disk: a file a layout, read and written."""
