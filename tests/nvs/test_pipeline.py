from pathlib import Path

import pytest
import torch

from mmdiff_video.errors import InputError
from mmdiff_video.nvs.config import BackboneConfig, DataConfig, NVSConfig
from mmdiff_video.nvs.pipeline import Reconstructor
from mmdiff_video.nvs.setup import set_up
from recon.cameras import compose, project
from recon.decoder import DecoderConfig

FRAMES, HEIGHT, WIDTH = 5, 32, 48


@pytest.fixture(scope="module", params=["re10k", "rooms"])
def reconstructor(request, nano_wan) -> Reconstructor:
    config = NVSConfig(
        input="latent",
        backbone=BackboneConfig(name="nano-wan"),
        decoder=DecoderConfig(width=32, depth=1, heads=4),
        data=DataConfig(name=request.param, frames=FRAMES, height=HEIGHT, width=WIDTH),
    )
    setup = set_up(config, nano_wan)
    return Reconstructor(setup, setup.model.eval(), step=0)


@pytest.fixture
def clip():
    viewmats = torch.eye(4).repeat(FRAMES, 1, 1)
    viewmats[:, 0, 3] = -torch.linspace(0.3, 1.1, FRAMES)
    K = torch.tensor([[40.0, 0, WIDTH / 2], [0, 40, HEIGHT / 2], [0, 0, 1]])
    images = torch.rand(FRAMES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    return images, K.repeat(FRAMES, 1, 1), viewmats


def some_motion() -> torch.Tensor:
    T = torch.eye(4)
    T[:3, :3] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    T[:3, 3] = torch.tensor([1.0, -2, 0.5])
    return T


def test_gaussians_lie_on_the_rays_of_the_users_own_cameras(reconstructor, clip):
    images, Ks, viewmats = clip
    gaussians = reconstructor.predict(images, Ks, viewmats)
    pixels, depths = project(gaussians.means, viewmats[:1], Ks[:1])
    stride = reconstructor.setup.config.decoder.output_space_stride
    of_first_frame = pixels[0, : (HEIGHT // stride) * (WIDTH // stride)]
    rows = torch.arange(stride / 2, HEIGHT, stride)
    columns = torch.arange(stride / 2, WIDTH, stride)
    expected = torch.cartesian_prod(rows, columns).flip(-1)
    torch.testing.assert_close(of_first_frame, expected, atol=1e-3, rtol=0)
    assert (depths[0] > 0).all()


def test_moving_the_world_moves_the_gaussians(reconstructor, clip):
    images, Ks, viewmats = clip
    new_from_old = some_motion()
    old_from_new = torch.linalg.inv(new_from_old)
    here = reconstructor.predict(images, Ks, viewmats)
    there = reconstructor.predict(images, Ks, compose(viewmats, old_from_new))
    torch.testing.assert_close(
        there.means, here.transform(new_from_old).means, atol=1e-3, rtol=1e-4
    )


def test_the_unit_of_length_is_the_users_where_the_data_has_none(reconstructor, clip):
    if reconstructor.setup.card.world_scale == "metric":
        pytest.skip("metric data keeps its metres")
    images, Ks, viewmats = clip
    larger = viewmats.clone()
    larger[:, :3, 3] *= 10
    small, large = (reconstructor.predict(images, Ks, v) for v in (viewmats, larger))
    torch.testing.assert_close(large.scales, 10 * small.scales, rtol=1e-3, atol=0)
    torch.testing.assert_close(large.means, 10 * small.means, rtol=1e-3, atol=1e-3)


def test_shapes_and_sizes_that_do_not_fit_are_refused(reconstructor, clip):
    images, Ks, viewmats = clip
    with pytest.raises(InputError, match="5 images need viewmats"):
        reconstructor.predict(images, Ks, viewmats[:3])
    with pytest.raises(InputError, match=r"must be \[F, 3, H, W\], not \[1, 5, 3"):
        reconstructor.predict(images[None], Ks, viewmats)
    with pytest.raises(InputError, match="height 30"):
        reconstructor.predict(images[:, :, :30], Ks, viewmats)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"no config\.yaml"):
        Reconstructor.from_run(tmp_path)


def test_cameras_in_one_place_have_no_scale(nano_wan, clip):
    images, Ks, viewmats = clip
    config = NVSConfig(
        input="latent",
        decoder=DecoderConfig(width=32, depth=1, heads=4),
        data=DataConfig(name="re10k", frames=FRAMES, height=HEIGHT, width=WIDTH),
    )
    setup = set_up(config, nano_wan)
    with pytest.raises(InputError, match="in one place"):
        Reconstructor(setup, setup.model, 0).predict(images, Ks, viewmats[:1].expand(FRAMES, 4, 4))
