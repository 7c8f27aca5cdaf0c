"""Where in a picture the words of a list lie, read from a transformer's attention."""
