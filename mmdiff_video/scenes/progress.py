"""A line on the terminal that says what is being done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def stage_line() -> Iterator[Callable[[str], None]]:
    """Give a function that shows a stage and for how long all has run; silent without a terminal.

    The line is gone in the end.
    """
    with tqdm(bar_format="{desc} ({elapsed})", disable=None, leave=False) as line:

        def show(stage: str) -> None:
            line.set_description_str(stage)
            line.refresh()

        yield show
