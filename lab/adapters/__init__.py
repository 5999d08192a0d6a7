"""Ways to keep a click model current (adapters), behind one interface, each with its tuned learning rate.

Reading order: `base` (the interface), `iak` (the kernel), `closed_form`, `trusted`, `with_path`; then adapters trained
by gradient: `training`, `optimiser`, `gradient`, `light`, `paper` (the kernel of the paper), `path` and `plugs` (the
few-parameter methods of the literature), `full_fine_tuning`; and rivals that need no backbone: `counters`, `factors`,
`neighbours`, `refit`. docs/decisions/0061 says why the comparison is fair.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from lab.adapters.ablations import ABLATIONS
from lab.adapters.base import Adapter, AdapterContext, Correctable, Frozen, StreamBatch
from lab.adapters.closed_form import ClosedForm
from lab.adapters.counters import CounterRegression, CounterSum, ItemMean
from lab.adapters.factors import AlternatingLeastSquares
from lab.adapters.full_fine_tuning import full_fine_tuning
from lab.adapters.gradient import GradientAdapter
from lab.adapters.iak import Iak
from lab.adapters.light import ErrorMemory, live_head
from lab.adapters.neighbours import Neighbours
from lab.adapters.paper.adapter import paper
from lab.adapters.paper.settings import PaperSettings
from lab.adapters.path import ClickPath, Plugs
from lab.adapters.plugs import BiasOnly, HeadOnly, Houlsby, LoRA, MLoRA, PeterRec, Star
from lab.adapters.refit import RefittedTrees
from lab.adapters.spec import AdapterSpec
from lab.adapters.trusted import trusted
from lab.adapters.with_path import with_path


def plugged(make: Callable[[ClickPath, AdapterContext], Plugs], context: AdapterContext, rate: float) -> Adapter:
    """Plugs into the frozen path, trained by Adam."""
    path = ClickPath(context.foundation)
    plugs = make(path, context)

    def logits(batch: StreamBatch) -> Tensor:
        """Click logits with the plugs in place, `(n,)`."""
        return path(batch.micro.x, batch.micro.domain, plugs)

    return GradientAdapter([(list(plugs.parameters()), rate)], logits, context.training, context.seed)


_PAPER = (3e-4, 1e-3, 3e-3, 1e-2)
_BANK = PaperSettings("D", bank_facets=("scene", "region"))
_HALF_LIVES = (1e3, 3e3, 9e3, 3e4, 1e5)
_MEMORIES = (3e3, 1e4, 3e4, 1e5)
_WHOLE = (1e-4, 3e-4, 1e-3, 3e-3)


def _paper(about: str, rate: float, settings: PaperSettings) -> AdapterSpec:
    return AdapterSpec("kernel", f"the paper's kernel, {about}", rate, partial(paper, settings=settings), _PAPER)


def _plug(make: Callable[[ClickPath, AdapterContext], Plugs]) -> Callable[[AdapterContext, float], Adapter]:
    return partial(plugged, make)


def _lora(path: ClickPath, context: AdapterContext) -> Plugs:
    return LoRA(path, rank=4, seed=context.seed)


def _mlora(path: ClickPath, context: AdapterContext) -> Plugs:
    return MLoRA(path, context.domain_sizes, seed=context.seed)


def _houlsby(path: ClickPath, context: AdapterContext) -> Plugs:
    return Houlsby(path, width=4, seed=context.seed)


def _peterrec(path: ClickPath, context: AdapterContext) -> Plugs:
    return PeterRec(path, width=4, seed=context.seed)


def _star(rank_one: bool) -> Callable[[ClickPath, AdapterContext], Plugs]:
    return lambda path, context: Star(path, context.domain_sizes, rank_one=rank_one, seed=context.seed)


ADAPTERS: dict[str, AdapterSpec] = {
    "frozen": AdapterSpec("reference", "the backbone as it was trained", 0.0, lambda context, rate: Frozen(), ()),
    "item-mean": AdapterSpec("rival", "click rate of the item", 20.0, ItemMean, (5.0, 20.0, 50.0, 100.0)),
    "counters": AdapterSpec("rival", "log-odds of item, user and facets added", 0.0, CounterSum, ()),
    "counters-lr": AdapterSpec("rival", "logistic regression on counters", 3e3, CounterRegression, _MEMORIES),
    "als": AdapterSpec("rival", "matrix factorisation with fold-in", 10.0, AlternatingLeastSquares, (3.0, 10.0, 30.0)),
    "knn": AdapterSpec("rival", "item-item neighbours and counters", 3e3, Neighbours, _MEMORIES),
    "refit": AdapterSpec("rival", "LightGBM on counters, refitted", 0.02, RefittedTrees, (0.02, 0.05, 0.1)),
    "iak": AdapterSpec("kernel", "IAK, as it is served", 0.0, Iak, ()),
    **ABLATIONS,
    "iak-paper-a": _paper("prior N(0, I)", 3e-3, PaperSettings("A")),
    "iak-paper-b": _paper("a learned Gaussian per domain", 3e-3, PaperSettings("B")),
    "iak-paper-d": _paper("deterministic", 1e-3, PaperSettings("D")),
    "iak-paper-bank": _paper("one per scene and region, batches of one domain", 3e-4, _BANK),
    "closed-form": AdapterSpec("live", "closed-form path on x and T, no core", 1e3, ClosedForm, _HALF_LIVES),
    "closed-form-trust": AdapterSpec("live", "the same under trust", 1e3, trusted(ClosedForm), _HALF_LIVES),
    "live-head": AdapterSpec("live", "T with a linear head", 3e-3, live_head),
    "error-memory": AdapterSpec("live", "nearest recent errors", 0.5, ErrorMemory, (0.1, 0.25, 0.5, 1.0)),
    "head-only": AdapterSpec("few", "the click tower", 1e-4, _plug(lambda path, _: HeadOnly(path))),
    "bias-only": AdapterSpec("few", "biases of trunk and tower", 1e-4, _plug(lambda path, _: BiasOnly(path))),
    "lora": AdapterSpec("few", "LoRA of rank 4 in trunk and tower", 1e-3, _plug(_lora)),
    "lora-path-trust": AdapterSpec(
        "few", "LoRA beside a closed-form path on x and T, under trust", 1e-3, trusted(with_path(_plug(_lora)))
    ),
    "mlora": AdapterSpec("few", "MLoRA: rank 1 per domain", 1e-4, _plug(_mlora)),
    "houlsby": AdapterSpec("few", "Houlsby adapters (AdapterRec)", 1e-3, _plug(_houlsby)),
    "houlsby-path-trust": AdapterSpec(
        "few", "Houlsby adapters beside the path, under trust", 1e-3, trusted(with_path(_plug(_houlsby)))
    ),
    "peterrec": AdapterSpec("few", "PeterRec's parallel patch and head", 1e-3, _plug(_peterrec)),
    "star-norm": AdapterSpec("few", "STAR: scale, shift and bias per domain", 1e-4, _plug(_star(False))),
    "star-rank1": AdapterSpec("few", "STAR with rank-one factors", 1e-4, _plug(_star(True))),
    "full": AdapterSpec("whole", "all of the backbone; users and items grow", 3e-4, full_fine_tuning, _WHOLE),
    "full-live": AdapterSpec(
        "whole", "all of the backbone with T as inputs", 1e-4, partial(full_fine_tuning, live=True), _WHOLE
    ),
    "full-trust": AdapterSpec(
        "whole", "all of the backbone, under trust", 3e-4, trusted(full_fine_tuning), _WHOLE, ablation=True
    ),
    "full-path-trust": AdapterSpec(
        "whole", "all of the backbone beside the path, under trust", 3e-4, trusted(with_path(full_fine_tuning)), _WHOLE
    ),
    "full-dense": AdapterSpec(
        "whole", "all but the ID tables", 3e-4, partial(full_fine_tuning, dense_only=True), _WHOLE
    ),
    "scratch": AdapterSpec("whole", "online from scratch", 1e-3, partial(full_fine_tuning, scratch=True)),
}
"""All adapters that need PyTorch alone; `lab.evaluate` adds river's logistic regression."""

__all__ = [
    "ADAPTERS",
    "Adapter",
    "AdapterContext",
    "AdapterSpec",
    "Correctable",
    "Frozen",
    "GradientAdapter",
    "StreamBatch",
]
