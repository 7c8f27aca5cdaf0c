from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mmdiff_video.config import ConfigSource, Variants, load_config, save_config
from mmdiff_video.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float = 1e-4
    taps: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "x"
    steps: int = 3
    train: Inner = field(default_factory=Inner)
    stages: list[Inner] = field(default_factory=lambda: [Inner(lr=1), Inner(lr=2)])


def test_overrides_win_over_file_over_base(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("steps: 5\ntrain: {lr: 0.1}\n")
    config = load_config(Outer, file, ["train.lr=0.2"], base={"name": "b", "steps": 4})
    assert config == Outer(name="b", steps=5, train=Inner(lr=0.2))


def test_an_override_can_change_one_item_of_a_list():
    config = load_config(
        Outer, None, ["stages.1.lr=3", "train.taps=[a, b]", "train.taps.0=c", "stages.0.taps=[d]"]
    )
    assert config.stages == [Inner(lr=1, taps=("d",)), Inner(lr=3)]
    assert config.train.taps == ("c", "b")


def test_tuples_of_names_accept_numbers():
    assert load_config(Outer, None, ["train.taps=[4,-1,double.2]"]).train.taps == (
        "4",
        "-1",
        "double.2",
    )


def test_saved_config_reads_back_equal(tmp_path: Path):
    config = Outer(name="saved", train=Inner(lr=3e-4, taps=("single.4",)))
    save_config(config, tmp_path / "c.yaml")
    assert load_config(Outer, tmp_path / "c.yaml") == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lrr=1", "did you mean 'train.lr'"),
        ("stepz=1", "did you mean 'steps'"),
        ("steps=1.5", "could not be converted to Integer"),
        ("train.lr=-1", "lr must be positive"),
        ("train=3", "override 'train=3'"),
        ("steps", "not of the form key=value"),
        ("stages.2.lr=1", "the list has items 0 to 1, not '2'"),
        ("stages.0.lrr=1", "stages.0.lrr=1.*Did you mean: 'lr'"),
        ("train.taps.0=a", "train.taps.0=a"),
    ],
)
def test_bad_override_is_one_sentence(override: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        load_config(Outer, None, [override])
    assert "\n" not in str(caught.value)


def test_unknown_key_in_a_file_names_the_file(tmp_path: Path):
    file = tmp_path / "typo.yaml"
    file.write_text("train: {learning_rate: 1}\n")
    with pytest.raises(InputError, match=r"typo\.yaml: unknown config key 'train\.learning_rate'"):
        load_config(Outer, file)


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "a: [1,\n", ""])
def test_a_file_that_is_no_mapping_is_refused_or_empty(tmp_path: Path, text: str):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    if text:
        with pytest.raises(InputError, match=r"c\.yaml"):
            load_config(Outer, file)
    else:
        assert load_config(Outer, file) == Outer()


@dataclass(frozen=True, kw_only=True)
class Shape:
    color: str = "red"


@dataclass(frozen=True, kw_only=True)
class Disc(Shape):
    radius: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Square(Shape):
    side: int = 2


SHAPES = Variants.of("kind", {"disc": Disc, "square": Square}, "shape")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    title: str = ""
    kind: str = "disc"
    shape: Shape = field(default_factory=Disc, metadata=SHAPES.metadata)


def test_a_field_is_the_variant_that_another_key_names():
    assert load_config(Drawing).shape == Disc()
    assert load_config(Drawing, overrides=["shape.side=5", "kind=square"]).shape == Square(side=5)
    assert load_config(Drawing, base={"shape": {"color": "blue"}}).shape == Disc(color="blue")


def test_a_config_with_variants_round_trips(tmp_path):
    drawing = Drawing(kind="square", shape=Square(side=7))
    save_config(drawing, tmp_path / "drawing.yaml")
    assert load_config(Drawing, tmp_path / "drawing.yaml") == drawing


def test_a_file_may_speak_to_several_variants(tmp_path):
    file = tmp_path / "both.yaml"
    file.write_text("shape: {radius: 3.0, side: 4, color: green}\n")
    assert load_config(Drawing, file).shape == Disc(radius=3.0, color="green")
    assert load_config(Drawing, file, ["kind=square"]).shape == Square(side=4, color="green")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["shape.side=5"], r"'shape.side' has no meaning with the chosen 'kind'.*color, radius"),
        (["kind=cube"], "unknown shape 'cube'.*disc, square"),
        (["shape.colour=red"], "unknown config key 'shape.colour': did you mean 'shape.color'"),
    ],
)
def test_keys_of_other_variants_are_refused_where_they_are_typed(overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(Drawing, overrides=overrides)


@pytest.mark.parametrize("text", ["2024_01", "no", "room #1", "a: b", "1e5", "[x]", "null", "~"])
def test_a_value_that_is_no_yaml_is_taken_as_it_is(text):
    assert load_config(Drawing, overrides=[("title", text)]).title == text


def test_what_is_said_of_a_key_can_be_asked_before_a_config_is_built(tmp_path):
    file = tmp_path / "drawing.yaml"
    file.write_text("kind: square\ntitle: from the file\n")
    source = ConfigSource(file, ["title=typed"])
    assert (source.get("kind"), source.get("title"), source.get("shape.side")) == (
        "square", "typed", None
    )  # fmt: skip
