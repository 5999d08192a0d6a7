"""Every process compares the backbone's card with its configuration when it starts, before it waits for anything."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from local.demo.collect import backbone_fingerprint
from local.demo.settings import free_ports
from model.backbone.checkpoint import BackboneRefused, save_backbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig, QueryAspect
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures
from model.kernel.start import CONVERSION_FILE, FILE, StartRefused
from streaming.backbone import open_backbone
from streaming.config import Config, GroupConfig
from streaming.group.assembly import first_rows
from streaming.ingest import run_ingest
from streaming.monitoring.feature_counts import FeatureCounts
from streaming.scorer.run import make_kernels, make_scorer, run_scorer
from streaming.scorer.schema import DomainFacets, RequestRefused, ScoreRequest
from tests.streaming.small_start import save_start, small_start


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration with a small backbone that was made for it."""
    return with_backbone(tmp_path)


def with_backbone(
    folder: Path,
    tasks: Literal["ctr", "ctr_ctcvr"] = "ctr",
    aspects: tuple[QueryAspect, ...] = (),
    relevance_weight: float = 0.0,
) -> Config:
    """A configuration whose run is in `folder`, with a small backbone of these tasks and query aspects."""
    (port,) = free_ports(1)
    own = Config.model_validate(
        {
            "run_dir": folder, "scorer": {"port": port, "metrics_port": 0}, "ingest": {"metrics_port": 0},
            "backbone": {"query_aspects": aspects},
        }
    )  # fmt: skip
    encoder = FeatureEncoder.fit(
        [UserFeatures("u", {"age": 30.0})],
        [ItemFeatures("a", {"year": 1999.0}, np.zeros(6, dtype=np.float32))],
        user_fields=own.features.user_fields,
        item_fields=own.features.item_fields,
        text_width=6,
    )
    sizes = BackboneConfig(
        width=8, id_width=4, sparse_width=4, text_width=6, content_width=4, tasks=tasks, query_aspects=aspects,
        relevance_weight=relevance_weight,
    )  # fmt: skip
    shape = BackboneShape.of(encoder, own.domain_space().sizes)
    backbone = FoundationBackbone(sizes, shape, encoder.digest).freeze()
    save_backbone(own.backbone_dir, backbone, encoder, own.input_schema(), {})
    save_start(own, backbone, encoder)
    return own


@pytest.fixture
def changed(config: Config) -> Config:
    """The same with a scene that was added after pretraining."""
    scenes = config.domains.model_copy(update={"scene": ("home", "kids")})
    return config.model_copy(update={"domains": scenes})


def test_a_backbone_without_conversions_has_no_conversion_start(config: Config) -> None:
    assert open_backbone(config).start.conversion is None


def test_a_backbone_with_conversions_opens_with_its_conversion_start(tmp_path: Path) -> None:
    opened = open_backbone(with_backbone(tmp_path, "ctr_ctcvr"))
    assert opened.start.conversion is not None
    assert opened.depends_on["kernel.conversion_start"] == opened.start.conversion.digest[:16]


def test_a_backbone_pretrained_without_a_conversion_start_is_refused_by_name(tmp_path: Path) -> None:
    converting = with_backbone(tmp_path, "ctr_ctcvr")
    (converting.backbone_dir / CONVERSION_FILE).unlink()
    with pytest.raises(StartRefused, match=r"kernel-start-cvr\.safetensors is missing.*pretrain it again"):
        open_backbone(converting)


REFUSAL = r"domains\.scene has 'kids', which pretraining did not know: take the change back, or pretrain again"


def test_the_configuration_of_pretraining_opens_the_backbone(config: Config) -> None:
    assert open_backbone(config).backbone.fingerprint == backbone_fingerprint(config)


def test_a_backbone_without_a_kernel_start_is_refused_with_a_remedy(config: Config) -> None:
    (config.backbone_dir / FILE).unlink()
    with pytest.raises(BackboneRefused, match=rf"{FILE} is missing: .* pretrain it again"):
        open_backbone(config)


def test_a_start_for_other_live_features_is_refused_by_their_names(config: Config) -> None:
    small_start(8, ("elsewhere", "rate"), residuals=1, values=3).save(config.backbone_dir)
    with pytest.raises(
        BackboneRefused, match=r"made for 2 live features, .*domain_confidence_long.*pretrain the backbone again"
    ):
        open_backbone(config)


def test_the_processor_reports_the_missing_file_of_a_group_unknown_to_pretraining(config: Config) -> None:
    groups = (*config.groups, GroupConfig(name="new"))
    changed = config.model_copy(update={"groups": groups})
    with pytest.raises(BackboneRefused, match=r"new\.msgpack is missing: pretraining knew no kernel group 'new'"):
        first_rows(changed, open_backbone(changed), "new")
    assert first_rows(changed, open_backbone(changed), "main") == []


def test_processor_and_demo_refuse_a_differing_configuration_by_the_key(changed: Config) -> None:
    for opened in (open_backbone, backbone_fingerprint):
        with pytest.raises(BackboneRefused, match=REFUSAL):
            opened(changed)


def test_the_scorer_refuses_a_differing_configuration_by_the_key(changed: Config) -> None:
    with pytest.raises(BackboneRefused, match=REFUSAL):
        run_scorer(changed)


def test_ingest_refuses_a_differing_configuration_by_the_key_although_it_needs_no_backbone_yet(
    changed: Config, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        assert run_ingest(changed) == 1
    assert "domains.scene has 'kids', which pretraining did not know" in caplog.text


_READ: dict[str, tuple[QueryAspect, ...]] = {"words": ("words",), "plain": ()}


def test_a_search_is_scored_only_by_a_backbone_that_reads_queries(tmp_path: Path) -> None:
    asked = {
        query: ScoreRequest("u", ["a", "b"], DomainFacets("home", "unknown", "night"), query=query)
        for query in (None, "war films", "love")
    }
    words, plain = (with_backbone(tmp_path / name, aspects=aspects) for name, aspects in _READ.items())
    opened = open_backbone(words)
    assert opened.query_aspects == ("words",)
    scorer = make_scorer(words, opened, make_kernels(words, opened), FeatureCounts())
    scorer.warm_up(["a"])
    rows = {query: scorer.score(request, 1.0).impression.array("x") for query, request in asked.items()}
    assert not np.array_equal(rows["war films"], rows[None])
    assert "war" not in repr(scorer.score(asked["war films"], 1.0).impression), "a query stands in no record"
    other = open_backbone(plain)
    refusing = make_scorer(plain, other, make_kernels(plain, other), FeatureCounts())
    refusing.score(asked[None], 1.0)
    with pytest.raises(RequestRefused, match="reads no query"):
        refusing.score(asked["love"], 1.0)


def test_the_scorer_ranks_searches_by_relevance_as_configured_or_refuses_to_start(tmp_path: Path) -> None:
    made, plain = (with_backbone(tmp_path / str(w), aspects=("words",), relevance_weight=w) for w in (1.0, 0.0))
    made, plain = (
        one.model_copy(update={"scorer": one.scorer.model_copy(update={"relevance_weight": 0.5})})
        for one in (made, plain)
    )
    opened = open_backbone(made)
    scorer = make_scorer(made, opened, make_kernels(made, opened), FeatureCounts())
    home = DomainFacets("home", "unknown", "night")
    for item in scorer.score(ScoreRequest("u", ["a", "b"], home, query="war films"), 1.0).response.scores:
        assert isinstance(item.ctr, float) and isinstance(item.relevance, float)
        assert item.score == pytest.approx(item.ctr * (0.5 + 0.5 * item.relevance), rel=1e-5)
    other = open_backbone(plain)
    with pytest.raises(
        BackboneRefused, match=r"scorer\.relevance_weight is 0\.5, but the backbone predicts no relevance"
    ):
        make_scorer(plain, other, make_kernels(plain, other), FeatureCounts())


def test_a_configuration_of_other_query_aspects_is_refused_by_its_key(tmp_path: Path) -> None:
    made = with_backbone(tmp_path, aspects=("words",))
    other = made.model_copy(update={"backbone": BackboneConfig()})
    with pytest.raises(BackboneRefused, match=r"backbone\.query_aspects is empty, pretraining had words"):
        open_backbone(other)
