import torch

from mmdiff_video.pretraining.sheets import contact_sheet


def test_captions_and_notes_wider_than_the_sheet_go_on_below():
    picture = torch.full((3, 64, 64), 0.5)
    plain = contact_sheet([[picture, picture]])
    long = "a red sofa against the back wall of a room with white walls, seen from the left"
    captioned = contact_sheet([[picture, picture]], [long])
    noted = contact_sheet([[picture, picture]], note=long)
    assert plain.width == captioned.width == noted.width == 2 * 64 + 3 * 4
    assert plain.height == 64 + 2 * 4
    assert captioned.height == plain.height + 4 * 13
    assert noted.height == plain.height + 4 * 13 + 4
    assert captioned.crop((0, 4, plain.width, 68)).tobytes() == (
        plain.crop((0, 4, plain.width, 68)).tobytes()
    )
