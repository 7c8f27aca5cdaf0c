"""The small vision-language model, saved once for all tests of the package."""

from pathlib import Path

import pytest
from tiny_vlm import save_tiny_vlm


@pytest.fixture(scope="session")
def vlm(tmp_path_factory) -> Path:
    return save_tiny_vlm(tmp_path_factory.mktemp("models") / "tiny-vlm")
