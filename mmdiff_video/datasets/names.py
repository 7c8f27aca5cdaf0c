"""Names of files as people have them: any alphabet, either Unicode spelling, any case, hidden."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from mmdiff_video.errors import InputError

_UNSHOWN = ("Cc", "Cs")
"""Unicode's categories of control characters and of lone surrogates."""

_MOST_BYTES = 200
"""Of a key: file systems take names of 255, and results add to it."""


class NotFoundError(Exception):
    """A name leads to no file, or it is not known to which; the message is the reason."""


def shown(name: Path | str) -> str:
    r"""Give a name as one line that can be printed and stored: what cannot, as ``\udce9``."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _UNSHOWN else c
        for c in str(name)
    )


def spelling(name: str) -> str:
    """Spell a name in Unicode's composed form; macOS hands out the decomposed one."""
    return unicodedata.normalize("NFC", name)


def key_of(name: str) -> str:
    """Make a name a key: the same on every machine, and text that can be printed and stored."""
    return shown(spelling(name))


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden file, as macOS leaves one (``._a.txt``) beside each."""
    return name.startswith(".")


def key_problem(key: str) -> str | None:
    """Say why a name cannot be a key, by which results are named and chance is seeded."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    if key in ("", ".", "..") or "/" in key or "\0" in key:
        return "its name is no file's name: rename it"
    if size > _MOST_BYTES:
        return f"its name has {size} bytes, more than {_MOST_BYTES}: rename it"
    return None


def why_missing(path: Path) -> str | None:
    """Say why a path leads to no file; None: it does."""
    try:
        if path.is_file():
            return None
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return f"'{shown(path)}' cannot be reached: {error.strerror}"
    return f"no file '{shown(path)}'"


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder; one that cannot be reached is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def inside(folder: Path, name: str) -> Path:
    """Follow a name in a list, which never leads out of the folder (links in it may).

    Args:
        folder: that names are relative to, also those that begin with a slash.
        name: a path.

    Raises:
        NotFoundError: a name that leads elsewhere.
    """
    relative = Path(name.lstrip("/"))
    if relative.is_absolute() or relative.drive or ".." in relative.parts:
        raise NotFoundError(f"'{shown(name)}' leads out of '{shown(folder)}', and is not followed")
    return folder / relative


class Folders:
    """The folders of a data set, each listed once. Hidden files are none of it."""

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def files(self, folder: Path) -> dict[str, list[Path]]:
        """List a folder by the stems of its names, in composed spelling; empty if it is not there.

        Raises:
            InputError: it may not be read.
        """
        if folder not in self._listed:
            listed: dict[str, list[Path]] = {}
            try:
                paths = sorted(folder.iterdir()) if is_folder(folder) else []
            except OSError as error:
                raise InputError(
                    f"the folder '{shown(folder)}' cannot be read: {error.strerror}"
                ) from None
            for path in paths:
                if not is_hidden(path.name):
                    listed.setdefault(spelling(path.stem), []).append(path)
            self._listed[folder] = listed
        return self._listed[folder]

    def find(self, folder: Path, stem: str, suffixes: Sequence[str]) -> Path:
        """Find the file of a stem.

        Args:
            folder: where.
            stem: in any spelling.
            suffixes: in lower case, which count in any case; the first that is there is taken.

        Raises:
            NotFoundError: there is none, or several of one suffix.
        """
        there = self.files(folder).get(spelling(stem), [])
        for suffix in suffixes:
            fit = [path for path in there if path.suffix.lower() == suffix]
            if len(fit) > 1:
                raise NotFoundError(several(fit))
            if fit:
                return _reached(fit[0])
        missing = f"no file '{shown(folder / stem)}{suffixes[0]}'"
        others = f" (but '{shown(there[0].name)}')" if there else ""
        raise NotFoundError(missing + others)

    def resolve(self, path: Path) -> Path:
        """Find the file that a path means; on disk, its name may be in another spelling or case.

        Raises:
            NotFoundError: there is none, or several.
        """
        if why_missing(path) is None:
            return path
        return self.find(path.parent, path.stem, [path.suffix.lower()])


def several(paths: Sequence[Path]) -> str:
    """Say that it is not known which of several files is meant."""
    names = " and ".join(f"'{shown(path.name)}'" for path in paths)
    return f"{names} lie side by side in '{shown(paths[0].parent)}': keep one"


def _reached(path: Path) -> Path:
    if missing := why_missing(path):
        raise NotFoundError(missing)
    return path
