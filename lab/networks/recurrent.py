"""Networks whose time goes into the steps of recurrent layers."""

from __future__ import annotations

from torch import Tensor, nn

STEPS = (100, 64)  # of a sequence, and the numbers in each
UNITS, DEPTH, CLASSES = 256, 2, 10


class Recurrent(nn.Module):
    """Two recurrent layers over a sequence, and a linear layer on the last state."""

    def __init__(self, layers: nn.RNNBase) -> None:
        super().__init__()
        self.layers, self.output = layers, nn.Linear(UNITS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """[n, *STEPS] -> [n, CLASSES]."""
        y: Tensor = self.output(self.layers(x)[0][:, -1])
        return y


def gru() -> nn.Module:
    """GRU layers (Cho et al. 2014)."""
    return Recurrent(nn.GRU(STEPS[1], UNITS, DEPTH, batch_first=True))


def lstm() -> nn.Module:
    """LSTM layers (Hochreiter and Schmidhuber 1997)."""
    return Recurrent(nn.LSTM(STEPS[1], UNITS, DEPTH, batch_first=True))
