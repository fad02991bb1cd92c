"""The classes of ``torch.nn`` that a random module may be made of, and the arguments they take.

Apart as a table so that a new class of torch is one more line, and so that Hypothesis, the covering
set and a test that counts can all read it: it knows none of them. Sizes are tiny, for every
example builds its module several times. Where arguments depend on each other, ``derive`` computes
them from choices that are free, and nothing is ever drawn in vain.

Left out are classes that take tensors or modules, which are no plain data, those that are features
of their own (lazy modules, lists of parameters), and ``Transformer``, which takes 4 ms on meta.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from pytest_ckptload.zoo.feature import Choose

__all__ = ["CATALOGUE", "Entry"]

_Arguments = dict[str, Any]
_Derive = Callable[[_Arguments], _Arguments]


@dataclass(frozen=True)
class Entry:
    """One class of ``torch.nn``, and the arguments it may be built with.

    ``choices`` are the options for each argument, simplest first: with all the first ones the
    module has the fewest tensors that its class can have, short of none. ``derive`` makes arguments
    of choices where they differ, from a dict that it may change.
    """

    name: str
    choices: Mapping[str, tuple[Any, ...]]
    derive: _Derive | None = None

    def kwargs(self, choose: Choose) -> _Arguments:
        """Arguments for the class, JSON-able: one option of each choice, in order.

        ``choose`` is asked only where there are two options or more.
        """
        chosen = {
            name: choose(options) if len(options) > 1 else options[0]
            for name, options in self.choices.items()
        }
        return self.derive(chosen) if self.derive else chosen


def _takes(name: str, derive: _Derive | None = None, /, **choices: tuple[Any, ...]) -> Entry:
    return Entry(name, choices, derive)


_SIZE = (1, 2, 3)
_PAIR = (1, 2)
# Off comes first: one tensor less.
_SWITCH = (False, True)


def _convolution(name: str, *kernel_sizes: int | tuple[int, ...]) -> Entry:
    channels = ((1, 1), (1, 3), (2, 1))
    return _takes(
        name, _grouped, channels=channels, kernel_size=kernel_sizes, groups=_PAIR, bias=_SWITCH
    )


def _grouped(chosen: _Arguments) -> _Arguments:
    inside, outside = chosen.pop("channels")
    groups = chosen["groups"]
    return {"in_channels": inside * groups, "out_channels": outside * groups, **chosen}


# Norms without bias came after torch 2.4.
_NO_BIAS = ("weight",) if "bias" in inspect.signature(nn.BatchNorm1d).parameters else ()
_STATISTICS = ("statistics", "weight+bias+statistics")


def _norm(name: str) -> Entry:
    holds = (*_NO_BIAS, "weight+bias", *_STATISTICS, "nothing")
    return _takes(name, _tracking, num_features=_PAIR, holds=holds)


def _tracking(chosen: _Arguments) -> _Arguments:
    track = chosen["holds"] in _STATISTICS
    return {**_affine(chosen), "track_running_stats": track}


def _grouped_norm(chosen: _Arguments) -> _Arguments:
    groups, width = chosen["num_groups"], chosen.pop("width")
    return {"num_channels": groups * width, **_affine(chosen)}


def _affine(chosen: _Arguments) -> _Arguments:
    holds = chosen.pop("holds")
    return {**chosen, "affine": "weight" in holds, **({"bias": False} if holds == "weight" else {})}


def _cell(name: str) -> Entry:
    return _takes(name, input_size=_PAIR, hidden_size=_PAIR, bias=_SWITCH)


def _recurrent(name: str, derive: _Derive | None = None, /, **sizes: tuple[int, ...]) -> Entry:
    return _takes(name, derive, **sizes, num_layers=_PAIR, bidirectional=_SWITCH, bias=_SWITCH)


def _projected(chosen: _Arguments) -> _Arguments:
    # A projection must be smaller than what is hidden.
    return {"hidden_size": 1 + chosen["proj_size"], **chosen}


def _layer(name: str) -> Entry:
    switches = dict.fromkeys(("bias", "batch_first", "norm_first"), _SWITCH)
    return _takes(name, d_model=(2,), nhead=_PAIR, dim_feedforward=(1,), **switches)


def _attention(chosen: _Arguments) -> _Arguments:
    # Other sizes for keys and values make three weights of the one.
    kdim, vdim = chosen.pop("others") or (None, None)
    return {**chosen, "kdim": kdim, "vdim": vdim}


_NORMALIZED = (1, 2, (2, 3))
_AFFINE = (True, False)

_ENTRIES = (
    _takes("Linear", in_features=_SIZE, out_features=_SIZE, bias=_SWITCH),
    _takes("PReLU", num_parameters=_SIZE),
    _takes("Embedding", num_embeddings=_SIZE, embedding_dim=_SIZE, padding_idx=(None, 0)),
    _takes("EmbeddingBag", num_embeddings=_SIZE, embedding_dim=_PAIR, padding_idx=(None, 0)),
    _takes("RMSNorm", normalized_shape=_NORMALIZED, elementwise_affine=_AFFINE),
    _takes("LayerNorm", normalized_shape=_NORMALIZED, elementwise_affine=_AFFINE, bias=_SWITCH),
    _takes(
        "GroupNorm",
        _grouped_norm,
        num_groups=_PAIR,
        width=_PAIR,
        holds=(*_NO_BIAS, "weight+bias", "nothing"),
    ),
    *map(_norm, ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")),
    *map(_norm, ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")),
    _convolution("Conv1d", 1, 2, 3),
    _convolution("Conv2d", 1, 2, (1, 3)),
    _convolution("Conv3d", 1, (1, 2, 3), 2),
    _convolution("ConvTranspose1d", 1, 2, 3),
    _convolution("ConvTranspose2d", 1, 2, (1, 3)),
    _convolution("ConvTranspose3d", 1, (1, 2, 3), 2),
    _takes("Bilinear", in1_features=_PAIR, in2_features=_PAIR, out_features=_SIZE, bias=_SWITCH),
    *map(_cell, ("RNNCell", "GRUCell", "LSTMCell")),
    _recurrent("RNN", input_size=(1,), hidden_size=_PAIR),
    _recurrent("GRU", input_size=(1,), hidden_size=_PAIR),
    _recurrent("LSTM", _projected, input_size=(2,), proj_size=(0, 1)),
    _takes(
        "AdaptiveLogSoftmaxWithLoss",
        # Each further cluster halves the features, which must last.
        in_features=(4,),
        n_classes=(3,),
        cutoffs=((1,), (1, 2)),
        div_value=(2.0,),
        head_bias=_SWITCH,
    ),
    _takes(
        "LinearCrossEntropyLoss",
        in_features=_PAIR,
        num_classes=_SIZE,
        out_features=((), (2,)),
        bias=_SWITCH,
    ),
    _takes(
        "MultiheadAttention",
        _attention,
        embed_dim=(2,),
        num_heads=_PAIR,
        bias=_SWITCH,
        add_bias_kv=_SWITCH,
        others=(None, (1, 3)),
    ),
    *map(_layer, ("TransformerEncoderLayer", "TransformerDecoderLayer")),
    # These hold nothing.
    *map(_takes, ("Identity", "ReLU", "GELU", "Dropout", "Flatten")),
)

CATALOGUE: dict[str, Entry] = {e.name: e for e in _ENTRIES if hasattr(nn, e.name)}
"""The classes that the installed torch has, by name, simplest first."""
