"""The exception of every reader of files here."""


class FormatError(ValueError):
    """A file or folder is not what it should be; the message says which, where and why."""
