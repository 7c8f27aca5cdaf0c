"""``mmdiff-video view``: a scene in the browser, served from this machine."""

import threading
from typing import TYPE_CHECKING

from mmdiff_video.scenes.look.content import Content
from mmdiff_video.scenes.look.panel import add_panel
from mmdiff_video.scenes.look.stage import open_server, set_stage
from mmdiff_video.scenes.look.viewer import Viewer

if TYPE_CHECKING:
    import viser


def serve(
    content: Content,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    frusta: bool = True,
    most_gaussians: int | None = None,
) -> None:
    """Show a scene to browsers until the user interrupts.

    Args:
        content: what there is to look at.
        host: address that is listened to; other than that of this machine alone, all who reach it
            can look.
        port: None: the first from 8080 on that is free; 0: any that is free.
        frusta: show the cameras of the pictures.
        most_gaussians: so many at most, the largest and most opaque; None: all.

    Raises:
        InputError: viser is not installed, or the address cannot be listened to.
    """
    with open_server(host, port) as server:
        viewer = Viewer(set_stage(server, content, frusta=frusta, most_gaussians=most_gaussians))
        add_panel(viewer)
        print(f"{content.name}: {address_of(server)} (Ctrl-C ends)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        finally:
            viewer.close()


def address_of(server: "viser.ViserServer") -> str:
    """What to open in the browser of this machine."""
    host = server.get_host()
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.get_port()}"
