"""A video, photographs or a project of others becomes a capture."""
