"""Alternatives to the base: models fitted once on the first half and then kept frozen.

Regressions and trees train on out-of-fold columns, as the base does. If a number of passes or rounds must be chosen,
the newest tenth of the first half chooses it and is then added to the training data. The settings are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.bases.columns import log_odds, one_hot
from lab.bases.deepfm import deepfm_logits
from lab.bases.halves import Halves, fields_of

Logits = NDArray[np.float64]
_COUNTERS = ("item", "user", "facet 0", "facet 1", "facet 2")
_HELD_OUT = 0.1
_ROUNDS, _PATIENCE = 1_000, 50
_TREES: dict[str, Any] = {
    "objective": "binary", "learning_rate": 0.03, "num_leaves": 15, "min_data_in_leaf": 50, "feature_fraction": 0.7,
    "bagging_fraction": 0.8, "bagging_freq": 1, "num_threads": 1, "deterministic": True, "force_row_wise": True,
    "verbosity": -1,
}  # fmt: skip


@dataclass(frozen=True)
class Baseline:
    """One baseline, a row of the table."""

    about: str
    logits: Callable[[Halves, int], Logits]
    """Computes the click logits of the live half, `(n,)`, from the halves and a seed."""


def _sum(halves: Halves, _: int, *, names: tuple[str, ...]) -> Logits:
    """The overall log-odds and the named fields' deviations from it, added up as naive Bayes does."""
    label = halves.train.label.numpy()
    rate = (label.sum() + 1.0) / (len(label) + 2.0)
    columns = [at for at, field in enumerate(fields_of(halves, halves.test)) if field.name in names]
    deviations: Logits = log_odds(halves).test[:, columns].sum(axis=1, dtype=np.float64)
    return deviations + float(np.log(rate / (1 - rate)))


def _regression(halves: Halves, _: int, *, crosses: bool) -> Logits:
    from sklearn.linear_model import LogisticRegression

    table = log_odds(halves, crosses=crosses, counts=crosses)
    return _or_constant(halves, lambda: LogisticRegression(max_iter=1_000), table.train, table.test)


def _one_hot(halves: Halves, _: int) -> Logits:
    from sklearn.linear_model import LogisticRegression

    train, test = one_hot(halves)
    return _or_constant(halves, lambda: LogisticRegression(C=0.3, max_iter=1_000), train, test)


def _or_constant(halves: Halves, make: Callable[[], Any], train: Any, test: Any) -> Logits:
    """The fitted model's logits; scikit-learn refuses labels that are all alike, and they need no model."""
    label = halves.train.label.numpy()
    if label.min() == label.max():
        return np.full(test.shape[0], np.log(label.sum() + 1.0) - np.log(len(label) - label.sum() + 1.0))
    logits: Logits = make().fit(train, label).decision_function(test)
    return logits


def _trees(halves: Halves, seed: int) -> Logits:
    import lightgbm

    earlier, whole = halves.within_train(_HELD_OUT), log_odds(halves, crosses=True, counts=True)
    tried = log_odds(earlier, crosses=True, counts=True)
    settings = _TREES | {"seed": seed}
    stopped = lightgbm.train(
        settings, lightgbm.Dataset(tried.train, earlier.train.label.numpy()), _ROUNDS,
        valid_sets=[lightgbm.Dataset(tried.test, earlier.test.label.numpy())],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )  # fmt: skip
    rounds = max(stopped.best_iteration, 1)
    trees = lightgbm.train(settings, lightgbm.Dataset(whole.train, halves.train.label.numpy()), rounds)
    logits: Logits = np.asarray(trees.predict(whole.test, raw_score=True), dtype=np.float64)
    return logits


BASELINES = {
    "item-mean": Baseline("item's rate, shrunk by 5", partial(_sum, names=("item",))),
    "counters": Baseline("rates of item, user and facets, added up", partial(_sum, names=_COUNTERS)),
    "lr": Baseline("logistic regression on log-odds of ids, fields and facets", partial(_regression, crosses=False)),
    "lr-crosses": Baseline("the same with log counts and crosses", partial(_regression, crosses=True)),
    "lr-one-hot": Baseline("logistic regression, one-hot with ids", _one_hot),
    "deepfm": Baseline("plain DeepFM", deepfm_logits),
    "lightgbm": Baseline("LightGBM on log-odds, log counts and crosses", _trees),
}
