"""A custom backbone: `backbone.factory` makes it, its own `fit` trains it, and it is saved like the foundation
model."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import time as clock
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import nn

from model.backbone.dataset import TrainingData
from model.backbone.probe import probe_batch
from model.backbone.report import PretrainReport, auc_by_domain
from model.backbone.schema import BackboneRefused
from model.backbone.shape import BackboneShape
from model.backbone.trainer import auc_ctcvr, logits_of
from model.backbone.wrap import WrappedBackbone
from model.config import BackboneConfig, PretrainConfig
from model.encoding.features import FeatureEncoder
from model.evaluation import auc, log_loss, sigmoid
from model.paths import user_path

Factory = Callable[[BackboneConfig, BackboneShape], nn.Module]
"""A factory makes the untrained module for given table sizes."""

_OURS = ("driftline", "local", "lab", "streaming", "features", "model")


class CustomBackbone(WrappedBackbone):
    """A user's module, wrapped and tested on rows of its encoder, with the configuration and shape for its card."""

    def __init__(
        self, module: nn.Module, config: BackboneConfig, shape: BackboneShape, encoder: FeatureEncoder
    ) -> None:
        """Raises BackboneRefused, naming the factory and the method or parameter that cannot be used."""
        try:
            super().__init__(
                module,
                probe_batch(encoder, shape.domain_sizes, config),
                content_width=config.content_width,
                identity=(config.identity, encoder.digest),
            )
        except (TypeError, ValueError) as error:
            raise BackboneRefused(f"{config.factory}: {error}") from error
        except (Exception, SystemExit) as error:  # the user's class may override a method of torch's, and it may fail
            raise BackboneRefused(f"{config.factory} cannot be frozen: {type(error).__name__}: {error}") from error
        if self.has_conversion != (config.tasks == "ctr_ctcvr"):
            given, cure = (
                ("two columns", "give the click logits alone, or set ctr_ctcvr")
                if self.has_conversion
                else ("one column", "give the logits of CTR and CVR, or set ctr")
            )
            raise BackboneRefused(
                f'{config.factory}: predict() gives {given}, but backbone.tasks is "{config.tasks}": {cure}'
            )
        self.config, self.shape, self.encoder_digest = config, shape, encoder.digest


def load_factory(name: str) -> Factory:
    """The function that `package.module:function` or `path/to/file.py:function` names.

    A relative path counts from the working directory, as the other paths of the configuration do. Raises
    BackboneRefused if there is no such file, module or function, or if it fails when it is imported.
    """
    source, _, function = name.rpartition(":")
    try:
        module = _load_file(Path(source), name) if source.endswith(".py") else _load_module(source, name)
    except BackboneRefused:
        raise
    except (Exception, SystemExit) as error:
        raise BackboneRefused(f"backbone.factory {name}: {type(error).__name__}: {error}") from error
    factory: Any = getattr(module, function, None)
    if not callable(factory):
        raise BackboneRefused(f"backbone.factory {name}: {module.__file__ or source} has no function {function}()")
    return factory  # type: ignore[no-any-return]


class _AsItStands(SourceFileLoader):
    """Compiles the file at every load. Python would reuse bytecode of a file with the same size and time stamp, and so
    miss a change within one second."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _load_file(path: Path, name: str) -> ModuleType:
    """The file as a module of a private package, so that no name on the import path can collide with it.

    The package's path is the file's folder: `from .layers import X` reads the file beside it.
    """
    path = user_path(path).absolute()
    if not path.is_file():
        raise BackboneRefused(
            f"backbone.factory {name}: there is no file {path} (a relative path counts from the working directory, "
            f"{Path.cwd()})"
        )
    package = f"_driftline_own_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    for loaded in [key for key in sys.modules if key == package or key.startswith(f"{package}.")]:
        del sys.modules[loaded]
    parent = ModuleType(package)
    parent.__path__ = [str(path.parent)]
    module_name = f"{package}.{path.stem.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(module_name, path, loader=_AsItStands(module_name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[package], sys.modules[spec.name] = parent, module
    spec.loader.exec_module(module)
    return module


def factory_digest(name: str) -> str:
    """SHA-256 of the files that the factory's module brings from its own folder or package; empty for no factory.

    It is part of the key under which a trained backbone is cached. Raises BackboneRefused as `load_factory` does.
    """
    if not name:
        return ""
    package = load_factory(name).__module__.split(".", 1)[0]
    modules = [m for key, m in sys.modules.items() if key == package or key.startswith(f"{package}.")]
    files = sorted({Path(path) for m in modules if (path := getattr(m, "__file__", None)) is not None})
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _load_module(source: str, name: str) -> ModuleType:
    if source.split(".", 1)[0] in _OURS:
        raise BackboneRefused(
            f"backbone.factory {name}: {source.split('.', 1)[0]} is a package of Driftline: name your file by its "
            "path, path/to/file.py:function"
        )
    return importlib.import_module(source)


def make_module(config: BackboneConfig, shape: BackboneShape) -> nn.Module:
    """The untrained module of `config.factory`. Raises BackboneRefused; the caller's random state is left as it was."""
    factory = load_factory(config.factory)
    try:
        module = factory(config, shape)
    except (Exception, SystemExit) as error:
        raise BackboneRefused(f"{config.factory}(config, shape) fails: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise BackboneRefused(f"{config.factory} gives a {type(module).__name__}, expected a torch.nn.Module")
    return module


def pretrain_custom(  # noqa: PLR0917 -- all that a training is made of
    data: TrainingData, cut: int, encoder: FeatureEncoder, shape: BackboneShape, backbone: BackboneConfig,
    config: PretrainConfig,
) -> tuple[CustomBackbone, PretrainReport]:  # fmt: skip
    """Trains the module of `backbone.factory` by its own `fit(train, validation, config)` and freezes it.

    `train` are the first `cut` pairs of `data`, `validation` the rest, on which the report's figures are taken. The
    caller's random state is left as it was. Raises BackboneRefused.
    """
    begun = clock.perf_counter()
    train, validation = data.part(0, cut), data.part(cut, len(data))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        module = make_module(backbone, shape)
        fit = getattr(module, "fit", None)
        if not callable(fit):
            raise BackboneRefused(
                f"{backbone.factory}: {type(module).__name__} has no method fit(train, validation, config), which "
                "pretraining calls"
            )
        try:
            fit(train, validation, config)
        except (Exception, SystemExit) as error:
            raise BackboneRefused(f"{backbone.factory}: fit() fails: {type(error).__name__}: {error}") from error
        custom = CustomBackbone(module, backbone, shape, encoder)
    both = logits_of(custom, validation)
    labels, logits = validation.label.numpy(), both[:, 0]
    report = PretrainReport(
        train_examples=cut,
        validation_examples=len(validation),
        validation_auc=auc(labels, logits),
        validation_log_loss=log_loss(labels, sigmoid(logits)),
        validation_auc_ctcvr=auc_ctcvr(custom, validation, both),
        validation_auc_by_domain=auc_by_domain(labels, logits, validation.domain.numpy()),
        trained_parameters=sum(parameter.numel() for parameter in module.parameters()),
        seconds=clock.perf_counter() - begun,
        held_out=logits.tolist(),
    )
    return custom, report
