"""The pretrained backbone is made once per configuration and data, and installed whole."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from features.config import FeatureConfig
from features.live.layout import OVERALL
from features.profiles import ItemProfile, UserProfile
from lab.backbone_training import TextWidthError
from lab.pretraining import backbone_key, install_backbone, pretrained_backbone
from lab.streams.logged.movielens import MovieLens, Rating
from lab.streams.logged.movielens_stream import movielens_stream
from lab.streams.recording import Recording
from model.backbone.checkpoint import BackboneRefused, load_backbone
from model.config import BackboneConfig, FieldSpec, PretrainConfig
from streaming.backbone import open_backbone
from streaming.config import Config, GroupConfig
from streaming.group.assembly import first_rows

QUIET = Console(quiet=True)


def recorded(data: MovieLens) -> Recording:
    return Recording(movielens_stream(data), "MovieLens 100K")


@pytest.fixture
def data() -> MovieLens:
    ratings = [Rating(float(t), f"u{t % 5}", f"i{t % 7}", 5.0 if (t % 5 + t % 7) % 2 else 1.0) for t in range(200)]
    return MovieLens(
        users=[UserProfile(f"u{n}", 0.0, {"age": 20.0 + n}) for n in range(5)],
        items=[ItemProfile(f"i{n}", 0.0, "", {"year": 1990.0 + n}) for n in range(7)],
        ratings=ratings,
        regions={f"u{n}": f"zip{n}" for n in range(5)},
    )


@pytest.fixture
def config(tmp_path: Path, cache_dir: Path) -> Config:
    (tmp_path / "text").symlink_to(cache_dir / "text")  # the language model's vectors are not what is tested here
    return Config(
        run_dir=tmp_path / "run",
        cache_dir=tmp_path,
        features=FeatureConfig(
            user_fields=(FieldSpec(name="age", kind="number"),), item_fields=(FieldSpec(name="year", kind="number"),)
        ),
        pretrain=PretrainConfig(epochs=1, batch_size=32),
    )


def test_a_second_pretraining_uses_the_cached_backbone(config: Config, data: MovieLens) -> None:
    made = pretrained_backbone(config, recorded(data), QUIET)
    stamp = (made / "card.json").stat().st_mtime_ns
    assert pretrained_backbone(config, recorded(data), QUIET) == made
    assert (made / "card.json").stat().st_mtime_ns == stamp
    assert not list((config.cache_dir / "backbones").glob(".making-*"))


def _flip_a_byte(path: Path) -> None:
    """Size and time stay what they were."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_damaged_cached_backbone_is_reported_and_trained_again(
    config: Config, data: MovieLens, caplog: pytest.LogCaptureFixture
) -> None:
    made = pretrained_backbone(config, recorded(data), QUIET)
    whole = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
    start = made / "kernel-start.safetensors"
    _flip_a_byte(start)
    (made / "backbone.safetensors").write_bytes(whole["backbone.safetensors"][:-10])
    pretrained_backbone(config, recorded(data), QUIET)
    assert "damaged (backbone.safetensors, kernel-start.safetensors)" in caplog.text
    assert start.read_bytes() == whole[start.name]


def test_an_installed_backbone_that_changed_after_pretraining_is_refused_by_name(
    config: Config, data: MovieLens
) -> None:
    install_backbone(pretrained_backbone(config, recorded(data), QUIET), config.backbone_dir)
    open_backbone(config)
    _flip_a_byte(config.backbone_dir / "live-rows" / "main.msgpack")
    with pytest.raises(BackboneRefused, match=r"live-rows/main\.msgpack changed after pretraining: .*pretrain again"):
        open_backbone(config)


def test_every_input_of_the_backbone_is_part_of_its_key(config: Config, data: MovieLens) -> None:
    key = backbone_key(config, recorded(data))
    wider = config.model_copy(update={"backbone": BackboneConfig(width=32)})
    other_regions = config.model_copy(update={"domains": config.domains.model_copy(update={"region": ("zip1",)})})
    fewer = replace(data, ratings=data.ratings[2:])
    learning = config.model_copy(update={"run_dir": Path("elsewhere")})
    changed = ((wider, data), (other_regions, data), (config, fewer))
    assert len({key, *(backbone_key(other, recorded(played)) for other, played in changed)}) == 4
    assert backbone_key(learning, recorded(data)) == key


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": {"rank": 3}},
        {"live": {"max_users": 3}},
        {"groups": [{"name": "night", "period": ["night"]}, {"name": "main"}]},
    ],
)
def test_every_input_of_the_kernel_start_is_part_of_the_key(
    config: Config, data: MovieLens, changes: dict[str, object]
) -> None:
    other = Config.model_validate({**config.model_dump(), **changes})
    assert backbone_key(other, recorded(data)) != backbone_key(config, recorded(data))


def test_a_group_starts_with_the_counts_of_its_own_domains(config: Config, data: MovieLens) -> None:
    groups = (GroupConfig(name="night", period=("night",)), GroupConfig(name="rest"))
    apart = config.model_copy(update={"groups": groups})
    data = replace(data, ratings=[replace(rating, time=600 * rating.time) for rating in data.ratings])
    install_backbone(pretrained_backbone(apart, recorded(data), QUIET), apart.backbone_dir)
    opened, space = open_backbone(apart), apart.domain_space()
    examples = recorded(data).examples(space)
    domains = [space.decode(row) for row in examples.domain.tolist()]
    for group in groups:
        own = [apart.group_of(domain) == group.name for domain in domains]
        rows = {(row.kind, row.key): row for row in first_rows(apart, opened, group.name)}
        counted = {key: float(row.values[-2]) for (kind, key), row in rows.items() if kind == "domain"}
        assert counted[OVERALL] == sum(own)
        clicks = float(rows["domain", OVERALL].values[-1])
        assert clicks == sum(label for label, mine in zip(examples.label, own, strict=True) if mine) > 0
    assert not opened.start.mean.equal(opened.start.features.identity()), "the log taught first weights"


def test_a_text_model_of_another_width_is_refused_with_both_keys(config: Config, data: MovieLens) -> None:
    narrow = config.model_copy(update={"backbone": BackboneConfig(text_width=100)})
    with pytest.raises(TextWidthError, match=r"text model.*384 numbers.*backbone\.text_width = 384"):
        pretrained_backbone(narrow, recorded(data), QUIET)


def test_the_file_of_a_custom_backbone_is_part_of_its_key(config: Config, data: MovieLens, tmp_path: Path) -> None:
    def key(source: str) -> str:
        (tmp_path / "own.py").write_text(source)
        backbone = BackboneConfig(factory=f"{tmp_path / 'own.py'}:make")
        return backbone_key(config.model_copy(update={"backbone": backbone}), recorded(data))

    one, two = "def make(config, shape): ...\n", "def make(config, shape): return None\n"
    assert key(one) != key(two)
    assert key(one) == key(one)


def test_pretraining_uses_the_first_half_only(config: Config, data: MovieLens) -> None:
    flipped = [replace(rating, rating=6 - rating.rating) for rating in data.half("live")]
    other = replace(data, ratings=[*data.half("pretrain"), *flipped])
    assert backbone_key(config, recorded(other)) == backbone_key(config, recorded(data))


def test_an_installed_backbone_replaces_the_one_before_it(config: Config, data: MovieLens) -> None:
    made = pretrained_backbone(config, recorded(data), QUIET)
    (config.backbone_dir).mkdir(parents=True)
    (config.backbone_dir / "old.safetensors").touch()
    install_backbone(made, config.backbone_dir)
    assert sorted(path.name for path in config.backbone_dir.iterdir()) == sorted(path.name for path in made.iterdir())
    schema = config.input_schema()
    installed = load_backbone(config.backbone_dir, schema).backbone
    assert installed.fingerprint == load_backbone(made, schema).backbone.fingerprint
