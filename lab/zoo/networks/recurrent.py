"""Recurrent networks: LSTM and GRU, one way and both, with convolutions before and inside, encoders of sequences."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.zoo.entry import Entry, noise, tokens
from lab.zoo.layers import convolution


class Recurrent(nn.Module):
    """A recurrent layer and a classifier of its last step: [n, steps, inputs] -> [n, 6]."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], layers: int, both: bool) -> None:
        super().__init__()
        self.layer = kind(24, 48, layers, batch_first=True, bidirectional=both, dropout=0.1 if layers > 1 else 0.0)
        self.head = nn.Linear(96 if both else 48, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        steps, _ = self.layer(x)
        y: Tensor = self.head(steps[:, -1])
        return y


class Tagger(nn.Module):
    """A label for each word, by both directions (Huang et al. 2015): [n, 24] int64 -> [n, 24, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(80, 24), nn.LSTM(24, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Log probabilities."""
        return F.log_softmax(self.head(self.layer(self.table(x))[0]), -1)


class Crnn(nn.Module):
    """Text lines: convolutions, then both directions of an LSTM over the columns (Shi et al. 2017).

    [n, 1, 32, 96] -> [n, 24, 20], steps for CTC."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(1, 16, 3), nn.MaxPool2d(2), convolution(16, 32, 3), nn.MaxPool2d(2),
            convolution(32, 48, 3), nn.MaxPool2d((2, 1)), convolution(48, 48, 3), nn.MaxPool2d((4, 1)),
        )  # fmt: skip
        self.layer, self.head = nn.LSTM(48, 32, 2, bidirectional=True), nn.Linear(64, 20)

    def forward(self, x: Tensor) -> Tensor:
        """The layer has the steps first."""
        columns = self.body(x).squeeze(2).permute(2, 0, 1)
        y: Tensor = self.head(self.layer(columns)[0])
        return y.transpose(0, 1).log_softmax(2)


class ConvLstmCell(nn.Module):
    """Gates by a convolution (Shi et al. 2015): x, h and c [n, channels, H, W] -> h and c."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(inputs + channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One step."""
        entry, forget, output, update = self.gates(torch.cat([x, hidden], 1)).chunk(4, 1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(update)
        return torch.sigmoid(output) * torch.tanh(cell), cell


class ConvLstm(nn.Module):
    """A short film to its next picture: [n, 6, 1, 16, 16] -> [n, 1, 16, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = ConvLstmCell(1, 12), nn.Conv2d(12, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Unrolled over the pictures."""
        hidden = x.new_zeros(x.shape[0], 12, *x.shape[3:])
        cell = torch.zeros_like(hidden)
        for picture in x.unbind(1):
            hidden, cell = self.cell(picture, hidden, cell)
        return torch.sigmoid(self.head(hidden))


class Seq2SeqEncoder(nn.Module):
    """The encoder of a translator with attention (Bahdanau et al. 2015): [n, 20] int64 -> states and a context."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(100, 24), nn.GRU(24, 32, 2, batch_first=True, bidirectional=True)
        self.bridge, self.score = nn.Linear(64, 32), nn.Linear(64, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs [n, 20, 64], the decoder's first state [n, 32], a weighted mean [n, 64]."""
        outputs, last = self.layer(self.table(x))
        state = torch.tanh(self.bridge(torch.cat([last[-2], last[-1]], 1)))
        weights = self.score(torch.tanh(outputs)).softmax(1)
        return outputs, state, (weights * outputs).sum(1)


class Decoder(nn.Module):
    """Seq2seq whole: encoder, then six greedy steps of a cell with attention over its states."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.encoder, self.cell = nn.Embedding(50, 24), nn.GRU(24, 32, batch_first=True), nn.GRUCell(56, 32)
        self.head, self.start = nn.Linear(64, 50), nn.Parameter(torch.randn(24))

    def forward(self, x: Tensor) -> Tensor:
        """[n, 12] int64 -> scores [n, 6, 50]."""
        states, last = self.encoder(self.table(x))
        hidden, word, steps = last[0], self.start.expand(x.shape[0], -1), []
        for _ in range(6):
            weights = torch.softmax(torch.bmm(states, hidden[:, :, None]), 1)
            context = (weights * states).sum(1)
            hidden = self.cell(torch.cat([word, context], 1), hidden)
            steps.append(self.head(torch.cat([hidden, context], 1)))
            word = torch.softmax(steps[-1], 1) @ self.table.weight
        return torch.stack(steps, 1)


class DeepSpeech(nn.Module):
    """Spectrogram -> convolutions -> GRU both ways -> letters (Amodei et al. 2016): [n, 1, 32, 60] -> [n, 30, 29]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, (11, 5), (2, 2), (5, 2)), nn.BatchNorm2d(8), nn.Hardtanh(0, 20),
            nn.Conv2d(8, 8, (7, 5), (2, 1), (3, 2)), nn.BatchNorm2d(8), nn.Hardtanh(0, 20),
        )  # fmt: skip
        self.layer, self.norm, self.head = (
            nn.GRU(64, 40, batch_first=True, bidirectional=True),
            nn.BatchNorm1d(80),
            nn.Linear(80, 29),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Log probabilities."""
        y = self.body(x)
        y = self.layer(y.flatten(1, 2).transpose(1, 2))[0]
        y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        return F.log_softmax(self.head(y), dim=-1)


def _sequence(kind: type[nn.LSTM] | type[nn.GRU], layers: int, both: bool) -> Callable[[], Entry]:
    return lambda: Entry(Recurrent(kind, layers, both), (noise(30, 24),))


NETWORKS: dict[str, Callable[[], Entry]] = {
    "lstm": _sequence(nn.LSTM, 2, False),
    "gru": _sequence(nn.GRU, 2, False),
    "lstm-bidirectional": _sequence(nn.LSTM, 1, True),
    "gru-bidirectional": _sequence(nn.GRU, 2, True),
    "lstm-tagger": lambda: Entry(Tagger(), (tokens(80, 24),)),
    "crnn": lambda: Entry(Crnn(), (noise(1, 32, 96),)),
    "convlstm": lambda: Entry(ConvLstm(), (noise(6, 1, 16, 16),)),
    "seq2seq-encoder": lambda: Entry(Seq2SeqEncoder(), (tokens(100, 20),)),
    "seq2seq-attention": lambda: Entry(Decoder(), (tokens(50, 12),)),
    "deepspeech": lambda: Entry(DeepSpeech(), (noise(1, 32, 60),)),
}
