"""Taps, timesteps, sizes, and the words of the command line."""

import argparse
import contextlib
import io
import os
import random
from functools import cache
from typing import Any

from fuzz.harness import Case, require, target
from fuzz.mutate import VALUES, WORDS

from mmdiff_video.backbones.describe import describe
from mmdiff_video.backbones.tap_table import describe_taps
from mmdiff_video.backbones.taps import resolve_taps
from mmdiff_video.backbones.types import check_timesteps
from mmdiff_video.cli import _parser, main
from mmdiff_video.errors import InputError

_NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 17, 64, 256, -16, 2**31, 2**63, 10**30, 1.0, 16.5, float("nan")),
    *(float("inf"), True, None),
)


@target(cases=120)
def taps(case: Case) -> None:
    """Names and short forms of taps; what is chosen exists, once, in forward order."""
    rng = case.rng
    backbone = rng.choice(("nano-wan", "nano-flux", "flux", "wan"))
    layout = describe(backbone).layout
    names = [spec.name for spec in layout.taps]
    forms = (
        *(*names[:3], names[-1], 0, 1, -1, "2", "-2", "+1", "last-1", "last-4", " 1 ", 1.0, "1.0"),
        *(
            "block.-1",
            "block.99",
            "block.01",
            "double.1",
            "last-0",
            "last-999",
            "last--1",
            "LAST-1",
        ),
        *(
            f"{names[0]} ",
            names[0].upper(),
            "\u0661",
            "1" * 5000,
            "last-" + "9" * 5000,
            *VALUES,
            *WORDS,
        ),
    )
    wanted: Any = [rng.choice(forms) for _ in range(rng.choice((0, 1, 1, 2, 4)))]
    if rng.random() < 0.1:
        wanted = rng.choice(("block.0", {"a": 1}, (1, 2), [[1]]))
    case.note(backbone, repr(wanted)[:200])
    with case.refusable(InputError):
        chosen = resolve_taps(wanted, layout.taps, layout.default_stream)
        places = [names.index(spec.name) for spec in chosen]
        require(places == sorted(set(places)), f"order {places}")
        require(bool(chosen) == bool(list(wanted)), f"{wanted} gives {len(chosen)} taps")


@target(cases=60)
def timesteps(case: Case) -> None:
    """Sets of timesteps."""
    rng = case.rng
    odd = (0, 1, 0.5, 0.1, -0.0, 1.0000001, 1e-320, float("nan"), float("inf"), True)
    wanted: Any = [rng.choice(odd) for _ in range(rng.choice((0, 1, 2, 3)))]
    case.note(repr(wanted))
    with case.refusable(InputError):
        found = check_timesteps(wanted)
        require(found, "none at all")
        require(all(type(t) is float and 0 <= t <= 1 for t in found), f"timesteps {found}")
        require(len(set(found)) == len(found) == len(wanted), f"timesteps {found}")


@target(cases=60)
def tap_tables(case: Case) -> None:
    """Sizes of any number for any backbone."""
    rng = case.rng
    names = ("nano-wan", "nano-flux", "flux", "wan", "sd3.5-medium", "nano-wan-random")
    name = rng.choice((*names, *names, *(word for word in WORDS if "/" not in word)))
    sizes = {k: rng.choice(_NUMBERS) for k in ("frames", "height", "width") if rng.random() < 0.6}
    case.note(repr(name)[:60], sizes)
    with case.refusable(InputError):
        table = describe_taps(name, **sizes)
        require(all(n > 0 for n in table.grid), f"a grid {table.grid}")
        require(all(isinstance(n, int) for n in table.grid), f"a grid {table.grid}")
        require("nan" not in str(table).split(), "a NaN in the table")


@cache
def _commands() -> dict[tuple[str, ...], list[argparse.Action]]:
    """Every command and what it takes."""
    found: dict[tuple[str, ...], list[argparse.Action]] = {}

    def walk(parser: argparse.ArgumentParser) -> None:
        below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not below:
            actions = [a for a in parser._actions if a.dest != "help"]
            found[tuple(parser.prog.split()[1:])] = actions
        for action in below:
            for choice in action.choices.values():
                walk(choice)

    walk(_parser())
    return found


_WHOLE = {("taps",), ("data", "list"), ("data", "show"), ("data", "check"), ("eval",), ("predict",)}
_WHOLE |= {
    ("eval-3dgs",),
    ("eval-dense",),
    ("render",),
    ("convert",),
    ("pretrain", "export"),
    ("push",),
}
"""Commands that are run whole: nothing but mistakes is asked of them here, which costs nothing."""

_TYPED = (
    *("0", "-1", "1", "3", "64", "64x48", "x", "1e3", "nan", "0.5", "rooms", "re10k", "voc", "wan"),
    *("test", "train", "a.mp4", "a.png", "a.ply", "nowhere", "nowhere/x/y", "x" * 300, "a\nb"),
    *("train.steps=-1", "train.lr=nan", "=", "a=b", "data.name=x"),
)


def _type(rng: random.Random, command: tuple[str, ...]) -> list[str]:
    """Words for a command: about what it takes, and odd ones."""
    words: list[str] = []
    for action in _commands()[command]:
        if rng.random() < (0.85 if action.required else 0.3):
            value = rng.choice((*_TYPED, *_TYPED, *WORDS))
            if action.choices and rng.random() < 0.8:
                value = str(rng.choice(list(action.choices)))
            if action.option_strings:
                words.append(rng.choice(action.option_strings))
            if action.nargs != 0:
                words.append(value)
    if rng.random() < 0.3:
        words.insert(rng.randint(0, len(words)), rng.choice(WORDS))
    return [word for word in words if "\0" not in word]  # no system lets a NUL in


@target(cases=60)
def command_line(case: Case) -> None:
    """Odd words for every command: status 0 or 2, and a sentence for each mistake."""
    rng = case.rng
    command = rng.choice(sorted(_commands()))
    words = [*command, *_type(rng, command)]
    case.note([word[:60] for word in words])
    os.chdir(case.folder)
    os.environ |= {"HF_HUB_OFFLINE": "1", "MMDIFF_CACHE": str(case.folder / "cache")}
    os.environ.pop("MMDIFF_DATA", None)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if command in _WHOLE and not {"--sheet"} & set(words):
                status = main(words)
            else:
                from mmdiff_video.cli import _parse

                _parse(words)
                status = 0
        except SystemExit as stop:
            status = stop.code
    printed = err.getvalue()
    require(status in (0, 2), f"status {status}: {printed[-300:]}")
    if status == 2:
        case.refusal = printed[-300:]
        errors = [line for line in printed.splitlines() if "error: " in line]
        require(
            len(errors) == 1 or "\n" in "".join(words), f"{len(errors)} sentences: {printed[-500:]}"
        )
        require("Traceback" not in printed, printed[-500:])
