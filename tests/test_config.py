from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdiff_video.config import ConfigSource, Variants, load_config, save_config
from mmdiff_video.errors import InputError
from mmdiff_video.nvs.config import NVSConfig


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
        ("steps=1.5", "steps is 1.5: it must be a whole number"),
        ("train.lr=-1", "lr must be positive"),
        ("train=3", "override 'train=3'"),
        ("steps", "not of the form key=value"),
        ("stages.2.lr=1", "the list has items 0 to 1, not '2'"),
        ("stages.0.lrr=1", "stages.0.lrr=1.*did you mean 'stages.0.lr'"),
        ("train.taps.0=a", "train.taps is no list yet"),
        ("train.taps=a", "train.taps must be a list"),
        ("stages={a: {lr: 1}}", "the list has items 0 to 1, not 'a'"),
        ("steps=1e30", "must be a whole number"),
        ("steps=true", "steps is true: it must be a whole number"),
        ("steps=0100_", "must be a whole number"),
        ("steps=9999999999999999999999", "no setting is that large"),
        ("steps=-9223372036854775809", "no setting is that large"),
        ("steps=" + "9" * 10_000, "must be a whole number"),
        ("steps=null", "steps must be a whole number"),
        ("steps=[1]", "steps must be a whole number|steps is .1.: it must be a whole number"),
        ("steps=[" * 5000, "must be a whole number"),
        ("train.lr=nan", "finite"),
        ("train.lr=1e400", "finite"),
        ("train.lr=.inf", "train.lr is inf: it must be a finite number"),
        ("train.lr=yes", "train.lr is yes: it must be a number"),
        ("train.lr=2024-01-01", "must be a number"),
        ("train=[", "not readable YAML"),
        ("train=*a", "not readable YAML"),
        ("stages=" + "[" * 5000, "nested too deep|not readable"),
        (".steps=1", "not of the form"),
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


@pytest.mark.parametrize(
    "text",
    ["2024_01", "0123", "no", "room #1", "a: b", "1e5", "2024-01-01", "*star", "!tag", "{x", "[a]",
     "${oc.env:HOME}", "${steps}", "???", "a\nb", "'tis", '"a" and "b"', "\udcff.jpg"],
)  # fmt: skip
def test_a_text_is_what_is_written_wherever_it_is_written(tmp_path: Path, text: str):
    typed = load_config(Drawing, overrides=[f"title={text}"])
    assert typed == load_config(Drawing, overrides=[("title", text)]) == Drawing(title=text)
    save_config(typed, tmp_path / "saved.yaml")
    assert load_config(Drawing, tmp_path / "saved.yaml") == typed


@settings(max_examples=40)
@given(st.text(st.characters(exclude_characters="\0")))
def test_every_text_survives_the_file(tmp_path_factory, text: str):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    config = Outer(name=text, train=Inner(taps=(text, "b")))
    save_config(config, file)
    assert load_config(Outer, file) == config


def test_texts_in_a_file_and_in_lists_are_what_is_written(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("name: 2024_01\ntrain: {taps: [no, 0123, 1:30, '${HOME}']}\n")
    config = load_config(Outer, file, ["stages.0.taps=[yes, 1_0]"])
    assert (config.name, config.train.taps) == ("2024_01", ("no", "0123", "1:30", "${HOME}"))
    assert config.stages[0].taps == ("yes", "1_0")


def test_quotes_around_a_whole_value_and_null_mean_what_they_mean_in_yaml():
    assert load_config(Drawing, overrides=["title='room #1'"]).title == "room #1"
    assert load_config(Drawing, overrides=['title="null"']).title == "null"
    assert load_config(Outer, overrides=["train.taps=[a]", "train.taps=null"]).train.taps is None


def test_numbers_are_read_as_decimals():
    config = load_config(Outer, overrides=["steps=0100", "train.lr=1e-4"])
    assert (config.steps, config.train.lr) == (100, 1e-4)


BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcd"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "line 2"),
        ("steps: &self [*self]\n", "repeats a value: write it out, line 1"),
        ("train: " + "{a: " * 5000, "nested too deep"),
        ("[" * 100_000, "nested too deep"),
        ("steps: 1\nsteps: 2\n", "the key 'steps' stands there twice, line 2"),
        ("train: {lr: 1, lr: 2}\n", "'lr' stands there twice"),
        ("steps: !!python/object/apply:os.system [ls]\n", "the tag .* has no meaning here"),
        ("steps: !!int 3\n", "the tag"),
        ("<<: {steps: 1}\n", "unknown config key '<<'"),
        ("? [a]\n: 1\n", "a key is a list"),
        ("train: {lr: 1e400}\n", "it must be a finite number"),
        ("steps: 2024-01-01\n", "steps is 2024-01-01: it must be a whole number"),
        ("steps: 1\n---\nsteps: 2\n", "line 2"),
        ("just a text", "must be a mapping"),
        ("steps: \0", "not readable YAML"),
        ('name: "a\\0b"', "name holds a NUL"),
        (b"name: \xff\n", "not UTF-8"),
        ("#" * 300_000, "bytes are too many"),
    ],
)
def test_a_hostile_file_is_one_sentence(tmp_path: Path, content: str | bytes, message: str):
    file = tmp_path / "c.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        load_config(Outer, file)
    assert "c.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["train.steps=1000000000001", "data.samplings_per_clip=9223372036854775807",
     "train.grad_accumulation=9223372036854775807", "data.max_clips=9000000000000000000"],
)  # fmt: skip
def test_no_count_is_too_large_for_a_machine(override: str):
    key, _, value = override.partition("=")
    with pytest.raises(InputError, match=f"{key} is {value}: it must be 1000000000000 or less"):
        load_config(NVSConfig, None, [override])
    assert load_config(NVSConfig, None, ["train.log_every=1000000000000"])


@dataclass(frozen=True)
class Card:
    title: str
    sizes: dict[str, int | None]
    other: dict[str, Any] = field(default_factory=dict)
    span: tuple[int, int] = (1, 2)


def test_mappings_and_what_has_no_type(tmp_path: Path):
    file = tmp_path / "card.yaml"
    file.write_text(
        "title: a\nsizes: {train: 3, test: }\nother: {eps: 1e-6, on: [1, x, 0.5, no]}\n"
    )
    assert load_config(Card, file) == Card(
        "a", {"train": 3, "test": None}, {"eps": 1e-6, "on": [1, "x", 0.5, False]}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sizes: {}", "'title' is missing"),
        ("title: [a]\nsizes: {}", "title must be a text"),
        ("title: a\nsizes: [1]", "sizes must be a mapping"),
        ("title: a\nsizes: {a: b}", "sizes.a is b"),
        ("title: a\nsizes: {}\nspan: [1]", "span has 1 values, where 2 are wanted"),
    ],
)
def test_values_of_other_types_are_named(tmp_path: Path, text: str, message: str):
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(Card, tmp_path / "card.yaml")
