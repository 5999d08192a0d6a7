"""GRU4Rec: a recurrent network over the events (Hidasi et al., ICLR 2016, arXiv 1511.06939, 3.1)."""

from __future__ import annotations

from torch import Tensor, nn

from model.backbone.encoders.causal import CausalEncoder


class Gru4Rec(CausalEncoder):
    """One layer of gated recurrent units; more layers did not help in the paper (4.3).

    `h_t = (1 - z_t) h_{t-1} + z_t h~_t` (equations 1 to 4). It learns from the log's clicks instead of the paper's
    ranking losses (3.1.3).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """See `CausalEncoder`."""
        states: Tensor = self.gru(tokens)[0]
        return states
