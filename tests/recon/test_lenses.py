from dataclasses import replace

import pytest
import torch

from recon.lenses import (
    Lens,
    distort,
    straightened,
    undistort,
    undistort_points,
    without_blanks,
)

PHONE = Lens(width=96, height=64, fx=80, fy=82, cx=47, cy=33, k1=-0.12, k2=0.03, p1=1e-3, p2=-2e-3)


def test_the_distortion_is_opencvs():
    # by hand: x = 0.3, y = -0.2, r2 = 0.13
    x, y, r2 = 0.3, -0.2, 0.13
    radial = 1 - 0.12 * r2 + 0.03 * r2 * r2
    u = x * radial + 2 * 1e-3 * x * y - 2e-3 * (r2 + 2 * x * x)
    v = y * radial + 1e-3 * (r2 + 2 * y * y) + 2 * -2e-3 * x * y
    found = distort(torch.tensor([x, y], dtype=torch.float64), PHONE)
    torch.testing.assert_close(
        found, torch.tensor([u * 80 + 47, v * 82 + 33], dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_rays_of_pixels_are_the_inverse():
    pixels = torch.rand(500, 2, dtype=torch.float64) * torch.tensor([96.0, 64.0])
    back = distort(undistort_points(pixels, PHONE), PHONE)
    torch.testing.assert_close(back, pixels, rtol=0, atol=1e-8)


def test_undistorted_pictures_have_straight_lines():
    # a picture whose value is the ray's x, seen through the lens, is a plain ramp afterwards
    columns, rows = torch.arange(96) + 0.5, torch.arange(64) + 0.5
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).double()
    seen = undistort_points(pixels, PHONE)[..., 0][None]
    drawn = undistort(seen, PHONE)
    ramp = ((columns - 47) / 80).double().expand(64, -1)
    inner = (slice(8, -8), slice(8, -8))
    torch.testing.assert_close(drawn[0][inner], ramp[inner], rtol=0, atol=2e-3)


def test_a_pinhole_changes_nothing_and_corners_that_fold_are_black():
    picture = torch.rand(3, 64, 96)
    assert undistort(picture, PHONE.pinhole()) is picture
    fisheye = Lens(width=96, height=64, fx=30, fy=30, cx=48, cy=32, k1=-0.3)
    drawn = undistort(torch.ones(1, 64, 96), fisheye)
    assert drawn[0, 32, 48] == 1
    assert drawn[0, 0, 0] == 0


def test_a_resized_lens_sees_the_same_rays():
    half = PHONE.resized(48, 32)
    rays = torch.rand(20, 2, dtype=torch.float64) - 0.5
    torch.testing.assert_close(distort(rays, half) * 2, distort(rays, PHONE))


@pytest.mark.parametrize(
    "field", [{"fx": 0.0}, {"fy": -1.0}, {"cx": float("nan")}, {"k1": float("inf")}, {"width": 0}]
)
def test_what_is_no_lens_is_refused(field: dict):
    good = {"width": 9, "height": 8, "fx": 5.0, "fy": 6.0, "cx": 4.0, "cy": 3.0}
    with pytest.raises(ValueError, match=r"positive|infinite|pixels"):
        Lens(**{**good, **field})


@pytest.mark.parametrize(
    ("lens", "straight"),
    [
        (Lens(width=320, height=240, fx=300, fy=300, cx=160, cy=120), True),
        (Lens(width=320, height=240, fx=300, fy=300, cx=160, cy=120, k1=1e-4), True),
        (Lens(width=320, height=240, fx=300, fy=300, cx=160, cy=120, k1=5e-3), False),
        (Lens(width=320, height=240, fx=300, fy=300, cx=160, cy=120, p1=2e-3), False),
    ],
)
def test_what_bends_nothing_that_can_be_seen_is_straight(lens: Lens, straight: bool):
    assert straightened(lens).is_pinhole == straight
    assert straightened(lens) in (lens, lens.pinhole())


@pytest.mark.parametrize(
    "bent", [{"k1": -0.2}, {"k1": 0.2}, {"k1": 0.1, "k2": 0.05}, {"p1": 0.01, "p2": -0.02}]
)
def test_no_pixel_of_an_undistorted_picture_is_blank(bent: dict):
    lens = Lens(width=80, height=60, fx=70, fy=72, cx=41, cy=29, **bent)
    flat = without_blanks(lens)
    assert flat.is_pinhole
    assert (flat.width, flat.height, flat.cx, flat.cy) == (80, 60, 41, 29)
    assert 70 <= flat.fx < 100
    assert flat.fx / flat.fy == pytest.approx(70 / 72)
    assert undistort(torch.ones(1, 60, 80), lens, flat).min() > 0.99
    # and no more is cut off than that takes
    if flat.fx > 70:
        wider = replace(flat, fx=flat.fx * 0.97, fy=flat.fy * 0.97)
        assert undistort(torch.ones(1, 60, 80), lens, wider).min() == 0


def test_a_flat_camera_sees_what_its_lens_saw_where_its_rays_meet_it():
    lens = Lens(width=80, height=60, fx=70, fy=72, cx=41, cy=29, k1=0.15)
    flat = without_blanks(lens)
    # a picture whose brightness is the column in the bent picture
    columns = (torch.arange(80.0) + 0.5).expand(1, 60, 80)
    drawn = undistort(columns, lens, flat)
    pixel = torch.tensor([[20.5, 40.5]], dtype=torch.float64)
    expected = distort(undistort_points(pixel, flat), lens)[0, 0]
    assert float(drawn[0, 40, 20]) == pytest.approx(float(expected), abs=1e-3)
