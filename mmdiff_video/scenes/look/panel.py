"""The panel beside a scene: how it looks, pictures of it, flights through it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from mmdiff_video.files import file_name
from mmdiff_video.scenes.look.camera_path import Camera, fly_through
from mmdiff_video.scenes.look.looks import (
    Size,
    cameras_file,
    looks_of,
    picture_file,
    video_file,
)
from mmdiff_video.scenes.look.stage import CAMERAS, POINTS
from mmdiff_video.scenes.look.viewer import Viewer

if TYPE_CHECKING:
    import viser

_SIZE = (1280, 720)
_LONGEST_SIDE = 8192
_SECONDS_A_KEY = 2.0


def add_panel(viewer: Viewer) -> None:
    """Fill viser's panel with what a scene has."""
    content, gui = viewer.content, viewer.stage.server.gui
    # a shared address would lead through the servers of others
    gui.configure_theme(show_share_button=False, show_logo=False)
    gui.set_panel_label(content.name)
    facts = [] if content.gaussians is None else [f"{content.gaussians.num:,} Gaussians"]
    facts += [f"{len(content.views)} pictures"] if content.views else []
    facts += [f"{len(content.points):,} points"] if len(content.points) else []
    gui.add_markdown("\n\n".join(filter(None, [", ".join(facts), content.notice])))
    _add_nodes(viewer)
    if content.gaussians is not None:
        _add_looks(viewer)
        with gui.add_folder("Picture"):
            size = _add_picture(viewer)
        with gui.add_folder("Flight"):
            _add_flight(viewer, size)


def _add_nodes(viewer: Viewer) -> None:
    """Boxes to show and hide what is there beside Gaussians."""
    scene, gui = viewer.stage.server.scene, viewer.stage.server.gui
    cameras = scene.get_handle_by_name(CAMERAS)
    if cameras is not None:
        box = gui.add_checkbox("Cameras", cameras.visible, hint="click one to fly into it")
        box.on_update(lambda event: viewer.show_cameras(event.target.value))
        viewer.cameras_box = box
    points = scene.get_handle_by_name(POINTS)
    if points is not None:
        shown = gui.add_checkbox("Points", points.visible)

        @shown.on_update
        def _(_: "viser.GuiEvent") -> None:
            points.visible = shown.value


def _add_looks(viewer: Viewer) -> None:
    gui = viewer.stage.server.gui
    look = gui.add_dropdown("Look", looks_of(viewer.content))
    exact = gui.add_checkbox(
        "Exact", False, hint="drawn by the rasterizer: slower, and true to colours of directions"
    )
    for widget in (look, exact):

        @widget.on_update
        def _(_: "viser.GuiEvent") -> None:
            viewer.show(look.value, exact.value)


def _add_picture(viewer: Viewer) -> Callable[[], Size]:
    """Size and button; returns what the size is."""
    gui = viewer.stage.server.gui
    pixels = gui.add_vector2(
        "Pixels", _SIZE, min=(16, 16), max=(_LONGEST_SIDE, _LONGEST_SIDE), step=1
    )
    save = gui.add_button("Save picture")

    def size() -> Size:
        width, height = pixels.value
        return int(width), int(height)

    @save.on_click
    def _(event: "viser.GuiEvent") -> None:
        client = event.client
        if client is not None:
            with viewer.rendering:
                file = picture_file(viewer.content, viewer.camera(client), size(), viewer.look)
            _give(client, f"{viewer.content.name}.png", file)

    return size


def _add_flight(viewer: Viewer, size: Callable[[], Size]) -> None:
    gui = viewer.stage.server.gui
    add = gui.add_button("Add this camera")
    back = gui.add_button("Take back the last")
    listed = gui.add_markdown(_listed(viewer.keys))
    seconds = gui.add_number("Seconds", _SECONDS_A_KEY, min=0.1, max=600.0, step=0.1)
    fps = gui.add_number("Frames a second", 24, min=1, max=120, step=1)
    preview = gui.add_button("Preview")
    save = gui.add_button("Save video")
    save_cameras = gui.add_button("Save cameras")
    done = gui.add_progress_bar(0, visible=False)

    def path() -> list[Camera]:
        return fly_through(viewer.keys, max(1, round(seconds.value * fps.value)))

    def refresh() -> None:
        listed.content = _listed(viewer.keys)
        for button in (back, preview, save, save_cameras):
            button.disabled = not viewer.keys

    @add.on_click
    def _(event: "viser.GuiEvent") -> None:
        if event.client is not None:
            viewer.keys.append(viewer.camera(event.client))
            seconds.value = max(seconds.value, _SECONDS_A_KEY * (len(viewer.keys) - 1))
            refresh()

    @back.on_click
    def _(_: "viser.GuiEvent") -> None:
        del viewer.keys[-1:]
        refresh()

    @preview.on_click
    def _(event: "viser.GuiEvent") -> None:
        if event.client is not None and viewer.keys:
            frames = len(path())
            viewer.fly(event.client, viewer.keys, frames=frames, seconds=seconds.value)

    @save.on_click
    def _(event: "viser.GuiEvent") -> None:
        if event.client is None or not viewer.keys:
            return
        save.disabled, done.visible = True, True

        def tell(share: float) -> None:
            done.value = 100 * share

        try:
            with viewer.rendering:
                file = video_file(
                    viewer.content,
                    path(),
                    size(),
                    fps=fps.value,
                    look=viewer.look,
                    progress=tell,
                )
            _give(event.client, f"{viewer.content.name}.mp4", file)
        finally:
            save.disabled, done.visible = False, False

    @save_cameras.on_click
    def _(event: "viser.GuiEvent") -> None:
        if event.client is not None and viewer.keys:
            _give(event.client, "cameras.json", cameras_file(path(), size()))

    refresh()


def _give(client: "viser.ClientHandle", name: str, content: bytes) -> None:
    """Have a visitor's browser save a file: nothing is written on this machine."""
    stem, suffix = name.rsplit(".", 1)
    client.send_file_download(f"{file_name(stem)}.{suffix}", content, save_immediately=True)


def _listed(keys: list[Camera]) -> str:
    """The cameras of a path in words."""
    if not keys:
        return "No camera yet: go somewhere and add it."
    places = (", ".join(f"{x:.3g}" for x in key.centre.tolist()) for key in keys)
    return "\n".join(f"{number}. at {place}" for number, place in enumerate(places, start=1))
