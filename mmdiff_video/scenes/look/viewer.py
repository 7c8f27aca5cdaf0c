"""A scene before its visitors: what they see, where they fly."""

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmdiff_video.scenes.look.camera_path import Camera, fly_through
from mmdiff_video.scenes.look.looks import LOOKS, SPLAT_LOOKS, Size, looks_of
from mmdiff_video.scenes.look.stage import CAMERAS, SPLATS, Stage, behind, looked_at, upwards

if TYPE_CHECKING:
    import viser

_LONGEST_LIVE = 960
"""Pixels of the longer side of a picture that follows the camera."""

_FLIGHT_FRAMES, _FLIGHT_SECONDS = 20, 0.6


class Viewer:
    """A scene before its visitors, and what they can have done with it.

    Attributes:
        stage: the scene as viser has it.
        content: of the stage.
        look: the key of :data:`LOOKS` that is shown.
        exact: whether the rasterizer draws what is shown, in place of the browser.
        keys: cameras of the path that is being made.
        cameras_box: the one of the panel that shows and hides the frusta, if there is one.
        rendering: held by whoever renders: pictures that wait take no memory.
    """

    def __init__(self, stage: Stage):
        self.stage = stage
        self.content = stage.content
        self.look = "colour"
        self.exact = False
        self.keys: list[Camera] = []
        self.rendering = threading.Lock()
        self.cameras_box: viser.GuiInputHandle[bool] | None = None
        self._splats = stage.server.scene.get_handle_by_name(SPLATS)
        self._followed: set[int] = set()
        self._wake = threading.Event()
        self._closed = False
        self._follower = threading.Thread(target=self._follow, name="live pictures", daemon=True)
        self._follower.start()
        for number, frustum in enumerate(stage.frusta):
            frustum.on_click(lambda event, number=number: self.enter(event.client, number))
        stage.server.on_client_connect(self._welcome)

    @property
    def drawn_here(self) -> bool:
        """Whether visitors are shown pictures by the rasterizer, which follow their cameras."""
        shown = self.look in looks_of(self.content)
        return shown and (self.exact or self.look not in SPLAT_LOOKS)

    def show(self, look: str, exact: bool) -> None:
        """Choose what visitors see: a key of :data:`LOOKS`, and who draws it."""
        repaint = look in SPLAT_LOOKS and look != self.look
        self.look, self.exact = look, exact
        if repaint:
            self._splats = self.stage.paint(look)
        if self._splats is not None:
            self._splats.visible = not self.drawn_here
        for client in self.stage.server.get_clients().values():
            if self.drawn_here:
                self.follow(client)
            else:
                client.scene.set_background_image(behind(self.content))

    def show_cameras(self, shown: bool) -> None:
        """Show or hide the frusta of all pictures."""
        node = self.stage.server.scene.get_handle_by_name(CAMERAS)
        if node is not None:
            node.visible = shown
        if self.cameras_box is not None and self.cameras_box.value != shown:
            self.cameras_box.value = shown

    def enter(self, client: "viser.ClientHandle", number: int) -> None:
        """Fly a visitor into the camera of a picture; the frusta, which block the view, go."""
        self.fly(client, [self.camera(client), self.content.views[number].camera])
        self.show_cameras(False)

    def fly(
        self,
        client: "viser.ClientHandle",
        keys: Sequence[Camera],
        *,
        frames: int = _FLIGHT_FRAMES,
        seconds: float = _FLIGHT_SECONDS,
    ) -> None:
        """Take a visitor through cameras."""
        for camera in fly_through(keys, frames):
            with client.atomic():
                self.place(client.camera, camera)
            client.flush()
            time.sleep(seconds / frames)

    def camera(self, client: "viser.ClientHandle") -> Camera:
        """Where a visitor is."""
        handle = client.camera
        return Camera.at(handle.position.tolist(), handle.wxyz.tolist(), handle.fov)

    def place(self, handle: "viser.CameraHandle", camera: Camera) -> None:
        """Put the camera of a visitor where another stands."""
        handle.position = camera.centre.numpy()
        handle.look_at = looked_at(camera, self.content.focus(camera)).numpy()
        handle.up_direction = upwards(camera, self.content.up).numpy()
        handle.fov = camera.fov

    def follow(self, client: "viser.ClientHandle") -> None:
        """Have a picture made of what a visitor sees now, if it is drawn here."""
        if self.drawn_here:
            self._followed.add(client.client_id)
            self._wake.set()

    def close(self) -> None:
        """End the thread that makes live pictures."""
        self._closed = True
        self._wake.set()
        self._follower.join()

    def live_picture(self, camera: Camera, size: Size) -> np.ndarray:
        """What a camera sees now, uint8 [H, W, 3], no larger than can follow it."""
        shrunk = min(1.0, _LONGEST_LIVE / max(size))
        width, height = (max(1, round(side * shrunk)) for side in size)
        with self.rendering:
            return next(LOOKS[self.look](self.content, [camera], (width, height)))

    def _welcome(self, client: "viser.ClientHandle") -> None:
        client.camera.on_update(lambda _: self.follow(client))
        self.follow(client)

    def _follow(self) -> None:
        """Make pictures one after another, always of where a camera is by then."""
        while True:
            self._wake.wait()
            if self._closed:
                return
            self._wake.clear()
            clients = self.stage.server.get_clients()
            while self._followed and not self._closed:
                client = clients.get(self._followed.pop())
                if client is not None and self.drawn_here:
                    handle = client.camera
                    size = max(1, handle.image_width), max(1, handle.image_height)
                    picture = self.live_picture(self.camera(client), size)
                    client.scene.set_background_image(picture, "jpeg", jpeg_quality=90)
                    client.flush()
