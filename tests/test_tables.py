import pytest

from mmdiff_video.tables import format_bytes, format_count, format_table


def test_table_is_aligned_markdown():
    text = format_table(["input", "PSNR"], [["latent", "21.37"], ["features", "n/a"]], title="T")
    assert text.splitlines() == [
        "T",
        "",
        "| input    |  PSNR |",
        "|----------|------:|",
        "| latent   | 21.37 |",
        "| features |   n/a |",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (12_345, "12.3 k"), (31e6, "31.0 M"), (1.3e9, "1.3 B")],
)
def test_counts(number: float, text: str):
    assert format_count(int(number)) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(512, "512 B"), (1536, "1.5 KiB"), (20 * 2**20, "20.0 MiB"), (2**41, "2.0 TiB")],
)
def test_bytes(number: float, text: str):
    assert format_bytes(number) == text
