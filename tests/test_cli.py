"""The commands' help, and arguments that mean the same everywhere."""

import argparse
import errno
import os
import sys
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from mmdiff_video import cli
from mmdiff_video.cli import _parser, main


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All commands and actions, not the groups that they are in."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for choice in action.choices.values():
            yield from commands(choice)


COMMANDS = [parser.prog.split()[1:] for parser in commands(_parser())]


def arguments(command: list[str]) -> list[argparse.Action]:
    parser = next(p for p in commands(_parser()) if p.prog.split()[1:] == command)
    return [a for a in parser._actions if a.help != argparse.SUPPRESS and a.dest != "help"]


def test_a_verb_is_a_file_of_its_name():
    folder = Path(cli.__file__).parent
    files = {
        tuple(path.relative_to(folder).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if not path.name.startswith("_")
    }
    assert {tuple(word.replace("-", "_") for word in command) for command in COMMANDS} == files
    assert len(files) > 15


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_text_states_what_each_argument_is_and_its_default(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out
    for argument in arguments(command):
        name = f"{' '.join(command)} {argument.option_strings or argument.dest}"
        assert argument.help, name
        flag = argument.nargs == 0  # on or off
        optional = argument.option_strings and not argument.required
        if (optional and not flag) or argument.nargs in ("?", "*"):
            assert "(default: " in argument.help, name
        if argument.default not in (None, [], False, argparse.SUPPRESS):
            assert f"(default: {argument.default}" in argument.help, name


def test_every_flag_has_one_spelling():
    dests: dict[str, set[str]] = {}
    for command in COMMANDS:
        for argument in arguments(command):
            for spelling in argument.option_strings:
                dests.setdefault(spelling, set()).add(str(argument.metavar))
    assert not dests.keys() & {"--height", "--width", "--name", "--n"}
    assert dests["--frames"] == dests["--seed"] == dests["--scenes"] == {"N"}
    assert dests["--data-root"] == {"DIR"}


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (["--size", "320x176"], (320, 176)),
        (["--size", "64"], (64, 64)),
        (["--height", "176", "--width", "320"], (320, 176)),  # as in version 0.1.0
        ([], (None, None)),
    ],
)
@pytest.mark.parametrize("command", [["taps"], ["generate", "--prompt", "x", "--out", "o"]])
def test_sizes_are_typed_alike(command, words, size):
    args = _parser().parse_args([*command, *words])
    assert (args.width, args.height) == size


def test_what_is_made_has_a_size_too(capsys):
    make = ["data", "make", "rooms", "--out", "o"]
    args = _parser().parse_args(make)
    assert (args.width, args.height) == (256, 256)
    assert _parser().parse_args([*make, "--size", "96x64"]).height == 64
    assert _parser().parse_args(["data", "show", "rooms", "--size", "96"]).size == 96
    with pytest.raises(SystemExit):
        _parser().parse_args(["data", "show", "rooms", "--size", "96x64"])
    assert "'96x64' is no square" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        _parser().parse_args([*make, "--size", "big"])
    assert "'big' is no size such as 256 or 320x180" in capsys.readouterr().err


def run_raising(monkeypatch: pytest.MonkeyPatch, error: Exception) -> int:
    def run(args: argparse.Namespace) -> None:
        raise error

    monkeypatch.setattr(cli, "_parse", lambda argv: argparse.Namespace(run=run))
    return main([])


@pytest.mark.parametrize(
    "code",
    [
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.EROFS,
        errno.EFBIG,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EACCES,
        errno.ESTALE,
    ],
)
def test_what_the_system_refuses_is_a_sentence_with_the_file(monkeypatch, capsys, code):
    error = OSError(code, os.strerror(code), "out/x.png")
    assert run_raising(monkeypatch, error) == 2
    assert capsys.readouterr().err == f"error: {os.strerror(code)}: 'out/x.png'\n"


@pytest.mark.parametrize("name", ["a\0b", "\ud800.png", "a/\udfff", "\udc41"])
@pytest.mark.parametrize("use", [open, os.mkdir, os.stat])
def test_names_that_no_file_can_have_are_a_sentence(monkeypatch, capsys, name, use):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        use(name)
    assert run_raising(monkeypatch, refused.value) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    "bug", [ValueError("of a bug"), OSError(errno.EBADF, "a bug"), OSError("of a library")]
)
def test_bugs_keep_their_traceback(monkeypatch, bug):
    with pytest.raises(type(bug)):
        run_raising(monkeypatch, bug)


BYTES = os.fsdecode(b"red \xff sofa")


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "--prompt", BYTES, "--out", "o"],
        ["concepts", "--prompt", "x", "--concepts", f"chair,{BYTES}", "--out", "o"],
        ["caption", "--data", "voc", "--instruction", BYTES],
        ["predict", "run", "a.png", "--prompt", BYTES, "--out", "o"],
        ["dense", "--task", "seg", "--out", "o", f"data.prompt={BYTES}"],
        ["render", "run", "--scene", BYTES, "--out", "o.mp4"],
        ["push", "run", f"me/{BYTES}"],
    ],
    ids=lambda words: words[0],
)
def test_words_that_are_not_utf8_are_refused_before_any_work(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert "\\udcff sofa' is not UTF-8 text" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_name_of_any_bytes_reaches_its_command_and_the_terminal(monkeypatch, tmp_path):
    terminal = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    path = tmp_path / os.fsdecode(b"stra\xdfe.png")
    args = argparse.Namespace(run=lambda args: print(args.image, "é"), image=path)
    monkeypatch.setattr(cli, "_parse", lambda argv: args)
    assert main([]) == 0
    terminal.flush()
    assert terminal.buffer.getvalue().endswith(b"stra\\udcdfe.png \\xe9\n")
