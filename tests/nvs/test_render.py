import pytest
import torch

from mmdiff_video.errors import InputError
from mmdiff_video.nvs.render import _check_finite
from recon.gaussians import Gaussians


@pytest.mark.parametrize("part", ["means", "quats", "scales", "opacities", "colors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gaussians_of_no_finite_numbers_are_not_rendered(part: str, value: float):
    parts = {
        "means": (2, 3),
        "quats": (2, 4),
        "scales": (2, 3),
        "opacities": (2,),
        "colors": (2, 3),
    }
    tensors = {name: torch.ones(shape) for name, shape in parts.items()}
    _check_finite(Gaussians(**tensors))
    tensors[part].view(-1)[1] = value
    with pytest.raises(InputError, match="not finite"):
        _check_finite(Gaussians(**tensors))
