"""`backbone.factory`: how a custom backbone is made, trained, saved and opened, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from model.backbone.checkpoint import load_backbone, save_backbone
from model.backbone.custom import factory_digest, load_factory
from model.backbone.interface import FrozenBackbone
from model.backbone.pretrain import pretrain_backbone
from model.backbone.schema import BackboneRefused
from model.config import BackboneConfig, PretrainConfig
from tests.model.conftest import SCHEMA, SIZES, SMALL, World

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "custom_backbone.py"
PRETRAIN = PretrainConfig(epochs=2, batch_size=64)
SOURCE = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, text_width):
        super().__init__()
        self.net = nn.Linear(text_width, 6)
        self.out = nn.Linear(6, 1)

    def represent(self, batch):
        return self.net(batch.text)

    def predict(self, x, domain):
        return self.out(x)[:, 0]

    def fit(self, train, validation, config):
        with torch.no_grad():
            self.out.bias.fill_(float(train.label.mean()))


def make(config, shape):
    return Own(config.text_width)
"""


def config_of(factory: str) -> BackboneConfig:
    return SMALL.model_copy(update={"factory": factory})


def trained(world: World, factory: str, tasks: str = "ctr") -> FrozenBackbone:
    config = config_of(factory).model_copy(update={"tasks": tasks})
    backbone, _ = pretrain_backbone(
        world.examples, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=config, config=PRETRAIN,
    )  # fmt: skip
    return backbone


def written(folder: Path, source: str = SOURCE, name: str = "own.py") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(source)
    return f"{folder / name}:make"


def test_the_documented_deepfm_is_trained_saved_and_opened_with_the_same_answers(world: World, tmp_path: Path) -> None:
    factory = f"{EXAMPLE}:deepfm"
    backbone, report = pretrain_backbone(
        world.examples, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=config_of(factory),
        config=PretrainConfig(epochs=8, batch_size=64, learning_rate=1e-2),
    )  # fmt: skip
    save_backbone(tmp_path, backbone, world.encoder, SCHEMA, {})
    loaded = load_backbone(tmp_path, SCHEMA, factory)
    assert loaded.backbone.fingerprint == backbone.fingerprint
    assert report.validation_auc > 0.55
    assert report.validation_examples == 60
    x, domain = torch.ones(2, backbone.width), torch.zeros(2, 3, dtype=torch.int64)
    assert torch.equal(loaded.backbone.predict(x, domain), backbone.predict(x, domain))


def test_training_is_deterministic_and_leaves_the_random_state_of_the_caller(world: World, tmp_path: Path) -> None:
    factory = f"{EXAMPLE}:deepfm"
    state = torch.get_rng_state()
    first = trained(world, factory).fingerprint
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert trained(world, factory).fingerprint == first


@pytest.mark.parametrize("name", ["model.py", "features.py", "torch.py", "custom-backbone.py", "v1.2.py"])
def test_a_file_of_any_name_does_not_collide_with_other_modules(name: str, world: World, tmp_path: Path) -> None:
    before = {key: sys.modules.get(key) for key in ("model", "features", "torch")}
    assert trained(world, written(tmp_path, name=name)).width == 6
    assert {key: sys.modules.get(key) for key in before} == before
    assert str(tmp_path) not in sys.path


def test_a_file_imports_files_of_its_folder_by_relative_imports(world: World, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(SOURCE)
    factory = written(
        tmp_path, "from .model import make as made\n\n\ndef make(config, shape):\n    return made(config, shape)\n"
    )
    assert trained(world, factory).width == 6


def test_files_with_equal_names_in_two_folders_stay_separate(tmp_path: Path) -> None:
    one, two = (
        written(tmp_path / "a"),
        written(tmp_path / "b", SOURCE.replace("Linear(6, 1)", "Linear(6, 1, bias=True)")),
    )
    factories = {load_factory(one).__module__, load_factory(two).__module__}
    assert len(factories) == 2
    assert all(module in sys.modules for module in factories)


def test_a_relative_path_counts_from_the_working_directory(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert trained(world, "own.py:make").width == 6


def test_a_module_on_the_import_path_is_found_by_its_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a_users_package", name="__init__.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert trained(world, "a_users_package:make").width == 6


def test_the_digest_changes_with_the_file_and_with_files_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "layers.py").write_text("WIDTH = 6\n")
    factory = written(tmp_path, "from .layers import WIDTH\n" + SOURCE)
    first = factory_digest(factory)
    (tmp_path / "layers.py").write_text("WIDTH = 7\n")
    second = factory_digest(factory)
    written(tmp_path, "from .layers import WIDTH\n\n" + SOURCE)
    assert len({first, second, factory_digest(factory), factory_digest("")}) == 4


BAD_SOURCES: dict[str, tuple[str, str]] = {
    "no such function": (SOURCE.replace("def make", "def other"), r"has no function make\(\)"),
    "an error at import": ("1 / 0\n" + SOURCE, "ZeroDivisionError"),
    "an exit at import": ("raise SystemExit(3)\n", "SystemExit"),
    "a syntax error": ("def make(:\n", "SyntaxError"),
    "an error in the factory": (SOURCE.replace("return Own(", "return 1 / 0 or Own("), "fails: ZeroDivisionError"),
    "no module": (SOURCE.replace("return Own(config.text_width)", "return {}"), "gives a dict"),
    "no fit": (SOURCE.replace("def fit", "def learn"), r"has no method fit\(train, validation, config\)"),
    "an error in fit": (SOURCE.replace("float(train.label.mean())", "train.nothing"), r"fit\(\) fails: AttributeError"),
    "an exit in the factory": (
        SOURCE.replace("return Own(", "raise SystemExit(3)\n    return Own("), "fails: SystemExit: 3"
    ),
    "an exit in fit": (SOURCE.replace("with torch.no_grad", "raise SystemExit(3)\n        with torch.no_grad"),
        r"fit\(\) fails: SystemExit: 3"),
    "a method of torch's overridden": (
        SOURCE.replace("def represent", "def train(self, mode=True):\n        1 / 0\n\n    def represent"),
        "cannot be frozen: ZeroDivisionError",
    ),
    "parameters of inference mode": (
        SOURCE.replace("with torch.no_grad():", "with torch.inference_mode():\n            self.out = nn.Linear(6, 1)"),
        r"'out\.(weight|bias)' was made under torch\.inference_mode\(\)",
    ),
    "no predict": (SOURCE.replace("def predict", "def answer"), r"has no method predict\(\)"),
    "a row that reads the others": (
        SOURCE.replace("self.out(x)[:, 0]", "(self.out(x) - self.out(x).mean())[:, 0]"), r"predict\(\).*other rows"
    ),
    "two columns": (
        SOURCE.replace("nn.Linear(6, 1)", "nn.Linear(6, 2)").replace("[:, 0]", ""),
        r'gives two columns, but backbone\.tasks is "ctr"',
    ),
}  # fmt: skip


def test_a_custom_backbone_returns_one_column_per_task(world: World, tmp_path: Path) -> None:
    two = SOURCE.replace("nn.Linear(6, 1)", "nn.Linear(6, 2)").replace("[:, 0]", "")
    assert trained(world, written(tmp_path, two), tasks="ctr_ctcvr").has_conversion
    with pytest.raises(BackboneRefused, match=r'gives one column, but backbone\.tasks is "ctr_ctcvr"'):
        trained(world, written(tmp_path, SOURCE), tasks="ctr_ctcvr")


@pytest.mark.parametrize("fault", BAD_SOURCES)
def test_an_unusable_file_is_refused_by_name_with_the_reason(fault: str, world: World, tmp_path: Path) -> None:
    source, reason = BAD_SOURCES[fault]
    factory = written(tmp_path, source)
    with pytest.raises(BackboneRefused, match=reason) as refused:
        trained(world, factory)
    assert str(tmp_path / "own.py") in str(refused.value)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("nowhere/own.py:make", "no file .*working directory"),
        ("no_such_package.module:make", "ModuleNotFoundError"),
        ("model.mine:make", "model is a package of Driftline"),
        ("features:make", "features is a package of Driftline"),
    ],
)
def test_an_unknown_factory_is_refused_with_a_remedy(factory: str, reason: str) -> None:
    with pytest.raises(BackboneRefused, match=reason):
        load_factory(factory)


@pytest.mark.parametrize("factory", ["own.py", ":make", "own.py:", "own.py:make it", "package.module"])
def test_a_factory_without_a_function_is_an_invalid_configuration(factory: str) -> None:
    with pytest.raises(ValueError, match="names no function"):
        BackboneConfig(factory=factory)


def test_state_learned_outside_of_parameters_is_refused_when_saving(world: World, tmp_path: Path) -> None:
    source = SOURCE.replace("return self.out(x)[:, 0]", "return self.scale * self.out(x)[:, 0]")
    source = source.replace("        self.net =", "        self.scale = 1.0\n        self.net =")
    source = source.replace("        with torch.no_grad():", "        self.scale = 3.0\n        with torch.no_grad():")
    backbone = trained(world, written(tmp_path / "code", source))
    with pytest.raises(BackboneRefused, match=r"predict\(\) gives other values than at pretraining"):
        save_backbone(tmp_path / "backbone", backbone, world.encoder, SCHEMA, {})
    assert not (tmp_path / "backbone" / "card.json").exists()


@pytest.fixture
def saved(world: World, tmp_path: Path) -> tuple[Path, Path]:
    """Folders of a saved custom backbone and of its code."""
    save_backbone(tmp_path / "backbone", trained(world, written(tmp_path / "code")), world.encoder, SCHEMA, {})
    return tmp_path / "backbone", tmp_path / "code"


def test_code_with_other_outputs_than_at_pretraining_is_refused(saved: tuple[Path, Path]) -> None:
    folder, code = saved
    factory = written(code, SOURCE.replace("self.out(x)[:, 0]", "self.out(x)[:, 0] + 1"))
    with pytest.raises(BackboneRefused, match=r"predict\(\) gives other values than at pretraining"):
        load_backbone(folder, SCHEMA, factory)


def test_state_that_cannot_be_restored_is_refused_when_saving(world: World, tmp_path: Path) -> None:
    overridden = "def load_state_dict(self, state):\n        raise KeyError('old name')\n\n    def represent"
    factory = written(tmp_path, SOURCE.replace("def represent", overridden))
    backbone = trained(world, factory)
    with pytest.raises(BackboneRefused, match=r"load_state_dict\(\) fails: KeyError: 'old name'"):
        save_backbone(tmp_path / "saved", backbone, world.encoder, SCHEMA, {})


def test_changed_code_with_equal_size_and_time_is_loaded_again(tmp_path: Path) -> None:
    for number in (1, 2):
        factory = written(tmp_path, f"def make(config, shape):\n    return {number}\n")
        os.utime(tmp_path / "own.py", (1_700_000_000, 1_700_000_000))
        made: object = load_factory(factory)(BackboneConfig(), None)  # type: ignore[arg-type]
        assert made == number


def test_code_with_other_tensor_shapes_is_refused(saved: tuple[Path, Path]) -> None:
    folder, code = saved
    factory = written(code, SOURCE.replace("(6, 1)", "(7, 1)").replace("text_width, 6", "text_width, 7"))
    with pytest.raises(BackboneRefused, match=r"another module than at pretraining.*'net"):
        load_backbone(folder, SCHEMA, factory)


def test_a_comment_in_the_code_or_another_path_to_it_changes_nothing(saved: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = saved
    factory = written(tmp_path / "elsewhere", "# moved\n" + SOURCE)
    assert load_backbone(folder, SCHEMA, factory).backbone.width == 6


def test_a_custom_backbone_is_opened_only_with_its_own_factory(
    saved: tuple[Path, Path], world: World, tmp_path: Path
) -> None:
    folder, code = saved
    with pytest.raises(BackboneRefused, match=r"set backbone\.factory for every process"):
        load_backbone(folder, SCHEMA)
    save_backbone(tmp_path / "foundation", trained(world, ""), world.encoder, SCHEMA, {})
    with pytest.raises(BackboneRefused, match="holds the foundation model"):
        load_backbone(tmp_path / "foundation", SCHEMA, f"{code / 'own.py'}:make")
