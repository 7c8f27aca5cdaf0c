"""What is fuzzed: importing this fills :data:`fuzz.harness.TARGETS`."""

from fuzz.targets import (
    arguments,
    camera_files,
    captures,
    choices,
    configs,
    corpora,
    folders_of_others,
    label_files,
    pictures,
    rendering,
    run_folders,
    scene_files,
    tensor_files,
    text_files,
    videos,
    writers,
)

__all__ = [
    "arguments",
    "camera_files",
    "captures",
    "choices",
    "configs",
    "corpora",
    "folders_of_others",
    "label_files",
    "pictures",
    "rendering",
    "run_folders",
    "scene_files",
    "tensor_files",
    "text_files",
    "videos",
    "writers",
]
