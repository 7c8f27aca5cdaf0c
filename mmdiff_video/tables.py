"""Plain-text tables for the terminal and for run folders."""

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> str:
    """Lay out a table: the first column left-aligned, the others right-aligned.

    The result is also valid Markdown, so that it can be pasted into an issue or a README.
    """
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    lines = [line(header), rule, *(line(row) for row in rows)]
    return "\n".join([title, "", *lines] if title else lines)


def format_count(number: int) -> str:
    """Write a parameter or Gaussian count the way papers do: 950, 12.3 k, 31.0 M, 1.3 B."""
    for limit, divisor, unit in ((1e3, 1, ""), (1e6, 1e3, " k"), (1e9, 1e6, " M")):
        if number < limit:
            return f"{number / divisor:.1f}{unit}" if unit else str(number)
    return f"{number / 1e9:.1f} B"


def format_bytes(number: float) -> str:
    """Write a size in binary units: 512 B, 1.5 KiB, 20.0 MiB, 1.2 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
