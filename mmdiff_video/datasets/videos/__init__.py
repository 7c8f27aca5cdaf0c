"""Video files: the stream that is meant, where its frames lie, and which way is up."""
