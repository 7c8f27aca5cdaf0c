"""A run: the config for its backbone's scale, and its folder.

Whatever was trained, the folder has ``config.yaml`` and ``run.json`` (:class:`RunFacts`) beside
what the training loop writes; :func:`open_run` reads them.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mmdiff_video.backbones.describe import describe
from mmdiff_video.config import ConfigSource, Override, load_config
from mmdiff_video.errors import InputError, unknown_name
from mmdiff_video.files import read_json, refuse_links, remove_partials, write_json
from mmdiff_video.outputs import results_file
from mmdiff_video.resources import find_config
from mmdiff_video.skipped import Skipped

logger = logging.getLogger(__name__)

Config = TypeVar("Config")

CONFIG, FACTS = "config.yaml", "run.json"
"""The files of every run folder."""

KINDS = {
    "3dgs": "a run of `mmdiff-video train-3dgs`: `eval` and `render` take it",
    "dense": "a run of `mmdiff-video dense`: `eval`, `predict`, `generate`, `lift` and `push` take"
    " it",
    "joint": "a run of `mmdiff-video dense` for several tasks: `eval` and `predict` take it, and"
    " what takes a run of one task takes the folder of that task in it",
}
"""Kind of run -> what it is, and which commands take it."""

_SUFFIXES = {"laptop": "-nano", "gpu": ""}
"""Scale of a backbone -> end of the name of the config that suits it."""

_AGGREGATOR_WIDTHS = {"laptop": 128, "gpu": 768}
"""Scale of a backbone -> width D of the aggregators that read it, unless a config says otherwise
(768 in the paper)."""


def resolve_run_config(
    schema: type[Config], shipped: str, file: str | None, overrides: Sequence[Override]
) -> Config:
    """Build a run's config from a file, or the shipped one for its backbone, and overrides.

    Args:
        schema: the config of a kind of run; it has ``backbone.name`` and ``aggregator.width``.
        shipped: name of the shipped config for backbones of the scale ``gpu``; that for ``laptop``
            is called SHIPPED-nano.
        file: a YAML file or the name of a shipped one.
        overrides: see :data:`mmdiff_video.config.Override`.

    Raises:
        InputError: as :class:`mmdiff_video.config.ConfigSource`, or an unknown backbone.
    """
    source = ConfigSource(find_config(file) if file else None, overrides)
    name = source.get("backbone.name")
    if name is None:
        name = schema().backbone.name  # pyright: ignore[reportAttributeAccessIssue]
    scale = describe(str(name)).scale
    if file is None:
        path = find_config(f"{shipped}{_SUFFIXES[scale]}")
        logger.info("config: %s (the default for %s; --config takes another)", path.stem, name)
        source = source.with_file(path)
    base: dict[str, Any] = {
        "aggregator": {"width": _AGGREGATOR_WIDTHS[scale]},
        "backbone": {"name": str(name)},
    }
    return source.build(schema, base)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What ``run.json`` says of a run.

    Attributes:
        kind: a key of :data:`KINDS`.
        version: of mmdiff-video, which trained it.
        backbone: name of the frozen backbone.
        backbone_fingerprint: of its weights; None where an older version did not record it.
        untrained_backbone: whether they are random.
        parameters: trainable parameters of each part, and in ``total``.
        samples: clips or pictures that it trains on.
        skipped: those that it leaves out, with reasons.
        note: what else must be known of the choice of samples; empty for nothing.
        details: what only this kind has, as plain JSON values. Of ``joint``: ``tasks``, in their
            order, ``task_weights`` and ``pictures`` of each.
    """

    kind: str
    version: str
    backbone: str
    backbone_fingerprint: str | None
    untrained_backbone: bool
    parameters: Mapping[str, int]
    samples: int
    skipped: Sequence[Skipped] = ()
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write ``run.json``."""
        skipped = [entry._asdict() for entry in self.skipped]
        write_json(folder / FACTS, {**dataclasses.asdict(self), "skipped": skipped})


@dataclass(frozen=True)
class Run:
    """A run folder, opened with :func:`open_run`."""

    folder: Path
    facts: RunFacts

    def read_config(self, schema: type[Config]) -> Config:
        """Read its config.

        Raises:
            InputError: the config is damaged, or of another schema.
        """
        return load_config(schema, self.folder / CONFIG)


def open_run(folder: Path | str, *kinds: str) -> Run:
    """Open a run folder of this version or of 0.1.0.

    Args:
        folder: written by ``train-3dgs`` or ``dense``, or a saved model of the latter.
        kinds: keys of :data:`KINDS` that are accepted; none: any.

    Raises:
        InputError: no run there, a damaged ``run.json``, or a run of another kind.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise InputError(f"'{folder}' is not a run folder: it has no {CONFIG}; train there first")
    facts = _read_facts(folder)
    if kinds and facts.kind not in kinds:
        raise InputError(f"'{folder}' is {KINDS[facts.kind]}")
    return Run(folder, facts)


@contextmanager
def scoring(folder: Path, report: str) -> Iterator[Path]:
    """Hold a run's report, the file REPORT.json and the pictures in REPORT/, for this process.

    A run may be scored while it is trained, and twice at once on different splits. What a killed
    process left unfinished of the report goes.

    Raises:
        InputError: another process scores it for the same report, or there is a link in its folder.
    """
    refuse_links(folder)
    path = folder / f"{report}.json"
    with results_file(path, "scoring"):
        remove_partials(folder / report)
        yield path


def _read_facts(folder: Path) -> RunFacts:
    path = folder / FACTS
    config = ConfigSource(folder / CONFIG)
    try:
        found = read_json(path) if path.is_file() else {}
    except InputError as error:
        raise InputError(f"'{path}' is damaged: delete it, or train anew ({error})") from None
    try:
        kind = found.get("kind") or _kind_before_0_2(folder, found, config)
        if "kind" not in found:
            found = {**found, **_facts_before_0_2(found)}
        if kind not in KINDS:
            raise unknown_name(f"kind of run in '{path}'", kind, KINDS)
        details = dict(found.get("details", {}))
        tasks = details.get("tasks")
        if kind == "joint" and not (isinstance(tasks, list) and tasks):
            raise ValueError("a joint run has a list of tasks")
        samples = int(found.get("samples", 0))
        if samples < 0:
            raise ValueError("no run trains on less than nothing")
        fingerprint = found.get("backbone_fingerprint")
        return RunFacts(
            kind=kind,
            version=str(found.get("version", "")),
            backbone=str(found.get("backbone") or config.get("backbone.name")),
            backbone_fingerprint=None if fingerprint is None else str(fingerprint),
            untrained_backbone=bool(found.get("untrained_backbone")),
            parameters={name: int(n) for name, n in found.get("parameters", {}).items()},
            samples=samples,
            skipped=tuple(
                Skipped(str(entry["key"]), str(entry["reason"]))
                for entry in found.get("skipped", ())
            ),
            note=str(found.get("note", "")),
            details=details,
        )
    except InputError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError):
        raise InputError(f"'{path}' is damaged: delete it, or train anew") from None


def _kind_before_0_2(folder: Path, found: Mapping[str, Any], config: ConfigSource) -> str:
    """Tell the kind of a run of version 0.1.0, or of a model that was saved without its run."""
    if "tasks" in found:
        return "joint"
    if (folder / "dense.json").is_file() or config.get("task") is not None:
        return "dense"
    if config.get("decoder") is not None:
        return "3dgs"
    raise InputError(
        f"'{folder}' is neither a run of `mmdiff-video train-3dgs` nor one of `dense`: its {CONFIG}"
        " has no decoder and no task"
    )


def _facts_before_0_2(found: Mapping[str, Any]) -> dict[str, Any]:
    """Read what version 0.1.0 called otherwise in ``run.json``."""
    number = found.get("clips", found.get("pictures", 0))
    details = {key: found[key] for key in ("tasks", "task_weights") if key in found}
    if isinstance(number, dict):  # of a joint run
        details["pictures"] = number
        number = sum(number.values())
    skipped = found.get("skipped_clips", found.get("skipped_pictures", ()))
    return {"samples": number, "skipped": skipped, "details": details}
