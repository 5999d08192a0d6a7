"""Phase 1, knowledge compression: keeps the directions of the representation that tell users and domains apart.

The objective is the information bottleneck of IAK (arXiv 2501.14268), `min -I(Gbar; who, where) + I(Gbar; x) / beta`:
of the representation `x`, keep what identifies the group `g` = (user, scene, region, period) of a request, and nothing
else. For Gaussians it has a closed solution (Chechik et al., Information bottleneck for Gaussian variables, JMLR 2005).
Taking `g` as the knowledge to keep is ours (docs/decisions/0082). With the covariance `S` of `x` and the covariance `B`
of the groups' means,

    L = chol(S);   L^-1 B L^-T = V diag(s) V';   a_k = L^-T v_k
    keep k with beta s_k > 1;   alpha_k^2 = (beta s_k - 1) / (1 - s_k), divided by their mean
    z = clip(A'(x - mu), 2) alpha

`s_k`, from 0 to 1, is the share of the variance along `a_k` that lies between groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_RIDGE = 0.01
"""Share of the mean variance added to every direction, because a direction without variance has no inverse."""
_MOST = 0.995
"""Cap of `s`: at 1 the gain of a direction would be infinite."""
_CLIP = 2.0
"""Standard deviations. Matching multiplies `z`, so a few large values would dominate it (docs/decisions/0082)."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Compression:
    """A linear map of `x` `(n, d)` to the compressed knowledge `z` `(n, r)`, fixed with the backbone."""

    centre: Tensor
    """Mean of `x`, float32 `(d,)`."""
    projection: Tensor
    """A, float32 `(d, r)`."""
    gain: Tensor
    """alpha, float32 `(r,)`."""
    relevance: Tensor
    """`s_k` of the `r` directions, descending, float32 `(r,)`."""
    beta: float

    @staticmethod
    def fit(x: NDArray[np.float32], group: NDArray[np.int64], *, beta: float, rank: int) -> Compression:
        """Fits the bottleneck to representations `(n, d)` and group indices `(n,)`; keeps at most `rank` directions."""
        values = x.astype(np.float64)
        centre = values.mean(axis=0)
        whitening, relevance, directions = _solve(values - centre, group)
        kept = np.flatnonzero(beta * relevance > 1)[:rank]
        gain = np.sqrt((beta * relevance[kept] - 1) / (1 - relevance[kept]))
        if len(kept):
            gain /= np.sqrt((gain**2).mean())
        return Compression(
            centre=_float32(centre),
            projection=_float32(whitening.T @ directions[:, kept]),
            gain=_float32(gain),
            relevance=_float32(relevance[kept]),
            beta=beta,
        )

    def __call__(self, x: Tensor) -> Tensor:
        """z, float32 `(n, r)`."""
        return ((x - self.centre) @ self.projection).clamp_(-_CLIP, _CLIP) * self.gain

    @property
    def rank(self) -> int:
        """Number r of directions that are kept."""
        return len(self.gain)

    @property
    def nats_kept(self) -> float:
        """`I(Gbar; G)`: information about `x` that `z` keeps, nats per example (Chechik et al., section 5)."""
        s = self.relevance.double()
        return float(0.5 * torch.log(s * (self.beta - 1) / (1 - s)).sum())

    @property
    def nats_relevant(self) -> float:
        """`I(Gbar; who, where)`: information about the group in `z`, nats per example (Chechik et al., section 5)."""
        s = self.relevance.double()
        return float(0.5 * torch.log((self.beta - 1) / (self.beta * (1 - s))).sum())


def _solve(centred: Matrix, group: NDArray[np.int64]) -> tuple[Matrix, Matrix, Matrix]:
    """`L^-1`, the relevances in descending order, and the directions `V` in the same order."""
    n, d = centred.shape
    covariance = centred.T @ centred / n
    # If nothing varies, any ridge will do: every relevance is then 0.
    covariance += (_RIDGE * np.trace(covariance) / d or 1.0) * np.eye(d)
    _, index, count = np.unique(group, return_inverse=True, return_counts=True)
    means = np.zeros((len(count), d))
    np.add.at(means, index, centred)
    between = (means / count[:, None]).T @ means / n
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    relevance, directions = np.linalg.eigh(whitening @ between @ whitening.T)
    order = np.argsort(-relevance, kind="stable")
    return whitening, np.clip(relevance[order], 0.0, _MOST), directions[:, order]


def _float32(values: Matrix) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
