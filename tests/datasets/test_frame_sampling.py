import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdiff_video.datasets.clips.clip import ClipError
from mmdiff_video.datasets.clips.sampling import even_frames, sample_frames

requests = st.fixed_dictionaries(
    {
        "num_frames": st.integers(1, 300),
        "frames": st.integers(2, 49),
        "targets": st.integers(1, 12),
        "min_span": st.integers(2, 120),
        "max_span": st.integers(2, 300),
    }
)


def check_choice(choice, request):
    inputs, targets = choice
    assert len(inputs) == len(set(inputs)) == request["frames"]
    assert len(targets) == len(set(targets)) == request["targets"]
    assert list(inputs) == sorted(inputs)
    assert list(targets) == sorted(targets)
    assert not set(inputs) & set(targets)
    assert min(*inputs, *targets) >= 0
    assert max(*inputs, *targets) < request["num_frames"]
    # Even: neighbours differ by the same step, up to rounding.
    steps = [b - a for a, b in itertools.pairwise(inputs)]
    assert max(steps) - min(steps) <= 1
    span = inputs[-1] - inputs[0] + 1
    needed = request["frames"] + request["targets"]
    assert max(request["min_span"], needed) <= span
    assert span <= max(request["max_span"], request["min_span"], needed)
    assert inputs[0] < targets[0]
    assert targets[-1] < inputs[-1]


def too_short(request) -> bool:
    needed = max(request["min_span"], request["frames"] + request["targets"])
    return request["num_frames"] < needed


@settings(deadline=None)
@given(requests, st.integers(0, 2**32))
def test_sampled_frames_hold_to_the_contract_or_say_why_not(request, seed):
    def draw():
        return sample_frames(**request, rng=random.Random(seed))

    if too_short(request):
        with pytest.raises(ClipError, match=f"{request['num_frames']} frames are too few"):
            draw()
    else:
        check_choice(draw(), request)
        assert draw() == draw()


@settings(deadline=None)
@given(requests)
def test_even_frames_hold_to_the_contract_or_say_why_not(request):
    if too_short(request):
        with pytest.raises(ClipError, match=f"{request['num_frames']} frames are too few"):
            even_frames(**request)
    else:
        choice = even_frames(**request)
        check_choice(choice, request)
        # In the middle of the clip.
        before, after = choice.inputs[0], request["num_frames"] - 1 - choice.inputs[-1]
        assert abs(before - after) <= 1


def test_an_even_choice_in_full():
    choice = even_frames(13, frames=5, targets=2, min_span=5, max_span=99)
    assert choice.inputs == (0, 3, 6, 9, 12)
    assert choice.targets == (4, 10)


def test_chance_reaches_every_span_start_and_target():
    rng = random.Random(0)
    draws = [
        sample_frames(12, frames=3, targets=1, min_span=5, max_span=8, rng=rng) for _ in range(600)
    ]
    assert {c.inputs[-1] - c.inputs[0] + 1 for c in draws} == {5, 6, 7, 8}
    assert {c.inputs[0] for c in draws} == set(range(8))
    assert {c.targets[0] for c in draws} == set(range(1, 11))


def test_one_input_frame_has_no_between():
    with pytest.raises(ValueError, match="at least 2 input frames"):
        even_frames(40, frames=1, targets=2, min_span=2, max_span=40)
