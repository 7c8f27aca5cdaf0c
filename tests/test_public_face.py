"""What `import mmdiff_video` offers, and what the release says of itself."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import mmdiff_video

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there_and_is_what_its_home_has():
    assert set(mmdiff_video.__all__) >= {
        "DenseModel",
        "DiTFeatures",
        "Reconstructor",
        "build_aggregator",
        "list_backbones",
        "load_backbone",
    }
    for name in mmdiff_video.__all__:
        assert name in dir(mmdiff_video)
        if name == "__version__":
            continue
        found = getattr(mmdiff_video, name)
        home = importlib.import_module(found.__module__)
        assert getattr(home, found.__name__) is found
    assert {"nano-wan", "nano-flux", "wan", "flux"} <= set(mmdiff_video.list_backbones())


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'load_backbones'"):
        mmdiff_video.load_backbones  # noqa: B018


def test_the_import_is_light():
    code = "import sys, mmdiff_video; print('torch' in sys.modules, len(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["scikit-build"]["metadata"]["version"]["input"] == (
        "mmdiff_video/version.py"
    )
    assert f"\nversion: {mmdiff_video.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{mmdiff_video.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
