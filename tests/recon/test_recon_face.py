"""What `import recon` gives, whatever was imported before it."""

import subprocess
import sys

import pytest

import recon


def run(code: str) -> str:
    """Run ``code`` in a fresh interpreter and return what it prints."""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize(
    "before",
    [
        "pass",
        "import recon.rasterize.cpu_engine",
        "from recon.rasterize import rasterize, auto_engine, Rendered, ENGINES",
        "from recon.rasterize.projection import project_gaussians",
        "from recon import rasterize\nrasterize.__name__\nimport recon.rasterize.torch_engine",
    ],
)
def test_rasterize_is_the_function_whatever_was_imported_before(before):
    after = """
import types
from recon import rasterize
assert isinstance(rasterize, types.FunctionType), rasterize
import recon.rasterize.gsplat_engine
import recon
assert recon.rasterize is rasterize
from recon.rasterize import rasterize as same, auto_engine, Rendered, ENGINES
assert same is rasterize
print(auto_engine("meta").name, *ENGINES)
"""
    assert run(before + after) == "torch cpu torch gsplat"


def test_every_public_name_is_there():
    assert sorted(set(recon.__all__)) == sorted(recon.__all__)
    for name in recon.__all__:
        assert getattr(recon, name) is not None


def test_importing_it_leaves_heavy_libraries_and_random_numbers_alone():
    code = """
import sys, torch
before = torch.get_rng_state()
import recon
assert torch.equal(before, torch.get_rng_state())
heavy = {"gsplat", "lpips", "kornia", "matplotlib", "mmdiff_video", "diffusers"}
print(sorted(heavy & set(sys.modules)))
"""
    assert run(code) == "[]"
