"""Whether a pipeline in memory is still the one that was loaded.

A LoRA, fused or beside the weights, another scheduler or a weight written to makes other features:
they must not be found under the fingerprint of the files.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_SAMPLES = 64
"""Values of each tensor that are looked at, evenly spaced. A LoRA or a step of training changes
nearly all of a matrix; a tensor that was written to, as torch counts it, is summed up as well."""


class LoadedState:
    """Remembers what a pipeline was like, and says what it is like now.

    Looked at are the tensors of every module, by value; modules that were put in, with the numbers
    and words that they keep (an adapter's scale, whether it is on); the configs of diffusers'
    components; the size of tokenizers. Hooks are not seen. On an accelerator whatever is offloaded
    to a meta device counts by its shape alone.

    Args:
        pipeline: as it was loaded.
    """

    def __init__(self, pipeline: Any):
        self._pipeline = pipeline
        self._classes: dict[str, type] = {}
        self._versions: dict[str, int] = {}
        for name, module in _modules(pipeline.components):
            self._classes[name] = type(module)
            for key, tensor in _tensors(module):
                self._versions[f"{name}.{key}"] = _version(tensor)
        self._loaded = self.digest()

    def fingerprint(self, of_files: str) -> str:
        """Identify the pipeline: ``of_files`` while it is as loaded, something else otherwise."""
        now = self.digest()
        if now == self._loaded:
            return of_files
        return hashlib.blake2b(f"{of_files}\0{now}".encode(), digest_size=16).hexdigest()

    def digest(self, names: Collection[str] | None = None) -> str:
        """Hash the state of components; None: of all of them."""
        components: dict[str, Any] = {
            name: part
            for name, part in sorted(self._pipeline.components.items())
            if part is not None and (names is None or name in names)
        }
        digest = hashlib.blake2b(digest_size=16)
        for name, part in components.items():
            digest.update(f"{name}\0{type(part).__qualname__}\0{_settings(part)}\0".encode())
        samples: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for name, module in _modules(components):
            if self._classes.get(name) is not type(module):
                digest.update(
                    f"{name}\0{type(module).__qualname__}\0{_plain(vars(module))}".encode()
                )
            for key, tensor in _tensors(module):
                full = f"{name}.{key}"
                digest.update(f"{full}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
                if tensor.is_meta or not tensor.numel():
                    continue
                kept = samples.setdefault((tensor.device, tensor.dtype), [])
                kept.append(tensor.reshape(-1)[:: max(tensor.numel() // _SAMPLES, 1)])
                if self._versions.get(full, _version(tensor)) != _version(tensor):
                    digest.update(f"written\0{tensor.sum(dtype=torch.float64).item()!r}".encode())
        for values in samples.values():
            digest.update(torch.cat(values).cpu().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _modules(components: Mapping[str, Any]) -> Iterator[tuple[str, nn.Module]]:
    for name, part in components.items():
        if isinstance(part, nn.Module):
            yield from part.named_modules(prefix=name)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own parameters and buffers."""
    for group in (module._parameters, module._buffers):
        for key, tensor in group.items():
            if tensor is not None:
                yield key, tensor.detach()


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _settings(part: Any) -> str:
    """What a component is told beside its weights."""
    if isinstance(config := getattr(part, "config", None), Mapping):  # of diffusers
        return json.dumps(config, sort_keys=True, default=str)
    return str(len(part)) if hasattr(part, "__len__") else ""


def _plain(value: Any) -> str:
    """The numbers and words in the attributes of a module, in a form that other processes share."""
    if isinstance(value, dict):
        kept = ((str(k), _plain(v)) for k, v in value.items() if k != "training")
        return ",".join(f"{k}:{v}" for k, v in sorted(kept) if v)
    if isinstance(value, list | tuple | set | frozenset):
        items = [_plain(v) for v in value]
        return ";".join(sorted(items) if isinstance(value, set | frozenset) else items)
    return repr(value) if isinstance(value, bool | int | float | str) else ""
