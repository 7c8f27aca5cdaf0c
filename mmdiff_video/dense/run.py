"""What the commands do with dense runs, whether they learn one task or several."""

from collections.abc import Sequence
from pathlib import Path

from mmdiff_video.config import Override
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.evaluate import eval_dense
from mmdiff_video.dense.joint import train_joint
from mmdiff_video.dense.predict import PredictReport, predict_paths
from mmdiff_video.dense.setup import resolve_dense_config
from mmdiff_video.dense.task_data import TaskData
from mmdiff_video.dense.train import train_dense
from mmdiff_video.errors import InputError
from mmdiff_video.outputs import refuse_link
from mmdiff_video.process import processes
from mmdiff_video.runs import CONFIG, Run, open_run
from mmdiff_video.tasks import join_tasks, task_named


def train_and_score(
    tasks: Sequence[str],
    file: str | None,
    overrides: Sequence[Override],
    out: Path,
    *,
    resume: bool = False,
) -> list[str]:
    """``mmdiff-video dense``: train a head for a task, or one decoder for several, and score it.

    Args:
        tasks: see :meth:`TaskData.parse`.
        file, overrides: see :func:`resolve_dense_config`.
        out: the run folder.
        resume: go on from its newest checkpoint.

    Returns:
        The table of each task; none where the training was stopped, or in any but the main process.

    Raises:
        InputError: an unknown task, or as :func:`train_dense` and :func:`train_joint`.
    """
    chosen = [TaskData.parse(text) for text in tasks]
    joined = join_tasks(*(member.task for member in chosen))
    config = resolve_dense_config(file, [("task", joined), *overrides])
    if len(chosen) == 1:
        result = train_dense(chosen[0].config_of(config), out, resume=resume)
        folders = [out]
    else:
        result, folders = train_joint(config, chosen, out, resume=resume)
    if not result.finished or not processes().is_main_process:
        return []
    return [eval_dense(folder) for folder in folders]


def score_dense(run: Path, *, data_root: Path | None = None, max_images: int | None = None) -> str:
    """Score a run of one task or of several, each in its own folder; returns the tables.

    Args:
        run: a run folder.
        data_root: where the data lies now, if it moved.
        max_images: see :func:`mmdiff_video.dense.evaluate.eval_dense`.

    Raises:
        InputError: as :func:`mmdiff_video.dense.evaluate.eval_dense`; or a ``data_root`` for tasks
            with different data sets.
    """
    folders = _folders(open_run(run, "dense", "joint"))
    opened = [open_run(folder, "dense") for folder in folders]
    names = {one.read_config(DenseConfig).data.name for one in opened}
    if data_root is not None and len(names) > 1:
        raise InputError(
            f"the tasks of '{run}' have data sets of their own ({', '.join(sorted(names))}), and"
            " one data root cannot serve them: score their folders one by one"
        )
    return "\n\n".join(
        eval_dense(folder, data_root=data_root, max_images=max_images) for folder in folders
    )


def predict_with(
    run: str, paths: Sequence[Path], out: Path, *, prompt: str | None = None
) -> list[PredictReport]:
    """Predict with a run of one task; with one of several, each into ``out/TASK``.

    Args:
        run: a run folder, or what :meth:`DenseModel.from_pretrained` takes.
        paths, out, prompt: see :func:`predict_paths`.

    Raises:
        InputError: as :func:`predict_paths`; or a run of another kind.
    """
    if (Path(run) / CONFIG).is_file():  # else a Hub id; predict_paths refuses what is neither
        opened = open_run(run, "dense", "joint")
        if opened.facts.kind == "joint":
            for folder in _folders(opened):
                refuse_link(out / folder.name)
            return [
                predict_paths(folder, paths, out / folder.name, prompt=prompt)
                for folder in _folders(opened)
            ]
    return [predict_paths(run, paths, out, prompt=prompt)]


def _folders(run: Run) -> list[Path]:
    """The folders of a run's tasks: its own, where it has one task.

    Raises:
        InputError: ``run.json`` names a task that there is not, such as another folder.
    """
    if run.facts.kind == "dense":
        return [run.folder]
    return [run.folder / task_named(str(task)).name for task in run.facts.details["tasks"]]
