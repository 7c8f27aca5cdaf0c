"""``mmdiff-video view --html``: a scene as one page that needs no server and no network."""

import html
import logging
from pathlib import Path

from mmdiff_video.files import write_text
from mmdiff_video.outputs import results_file
from mmdiff_video.scenes.look.content import Content
from mmdiff_video.scenes.look.stage import open_server, set_stage

logger = logging.getLogger(__name__)

SANE_BYTES = 100_000_000
"""Beyond it browsers take long to open a page, or do not."""

_SORTED_FROM_DISK = """<script>
// Chromium starts no module worker from a blob on a page from the disk, and without the one that
// sorts them the Gaussians would be drawn in a wrong order. Where no blob can be made, the viewer
// starts its workers from data: addresses, which are allowed.
if (location.protocol === "file:") {
  const make = URL.createObjectURL;
  URL.createObjectURL = (o) => (o.type?.startsWith("text/javascript") ? "" : make.call(URL, o));
}
</script>"""

_NOTICE = (
    '<p style="position:fixed;left:1em;bottom:0;z-index:1;font:12px sans-serif;color:firebrick">'
    "{}</p>"
)


def write_page(
    content: Content, file: Path, *, frusta: bool = True, most_gaussians: int | None = None
) -> int:
    """Write a scene as one self-contained HTML page; its size is told.

    Args:
        content: what there is to look at.
        file: replaced; it appears complete or not at all.
        frusta: show the cameras of the pictures.
        most_gaussians: so many at most, the largest and most opaque; None: all.

    Returns:
        The size of the page in bytes.

    Raises:
        InputError: viser is not installed, or another process writes the file.
        OSError: the file cannot be written.
    """
    page = page_of(content, frusta=frusta, most_gaussians=most_gaussians)
    with results_file(file, "view"):
        write_text(file, page)
    size = file.stat().st_size
    logger.info("%s: %.1f MB", file, size / 1e6)
    if size > SANE_BYTES:
        logger.warning(
            "browsers take long to open a page beyond %d MB: --most-gaussians makes a smaller one",
            SANE_BYTES // 1_000_000,
        )
    return size


def page_of(content: Content, *, frusta: bool = True, most_gaussians: int | None = None) -> str:
    """The page of :func:`write_page` as text."""
    with open_server("127.0.0.1", 0) as server:
        set_stage(server, content, frusta=frusta, most_gaussians=most_gaussians)
        page = server.scene.as_html()
    title = f"<title>{html.escape(content.name)}</title>"
    page = page.replace("<title>Viser</title>", title + _SORTED_FROM_DISK, 1)
    if not content.notice:
        return page
    before, end, after = page.rpartition("</body>")
    return before + _NOTICE.format(html.escape(content.notice)) + end + after
