"""The classes of ``torch.nn`` that a random module may be made of, and the arguments they take.

Apart as a table so that a new class of torch is one more line, and so that Hypothesis, the covering
set and a test that counts can all read it: it knows none of them. Sizes are tiny, for every
example builds its module several times. Where arguments depend on each other, ``derive`` computes
them from choices that are free, and nothing is ever drawn in vain.

Left out are classes that are features of their own (lazy modules, lists of parameters), and
``DataParallel``: where there is a GPU it moves its module there while it is built, even from meta.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from pytest_ckptload.case import ModuleSpec

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
    of choices where they differ, from a dict that it may change. What is a ``ModuleSpec`` among the
    arguments becomes a child. What is ``slow`` to build is for the covering set alone.
    """

    name: str
    choices: Mapping[str, tuple[Any, ...]]
    derive: _Derive | None = None
    slow: bool = False

    def spec(self, choose: Choose) -> ModuleSpec:
        """A module of the class, with one option of each choice, asked for in order.

        ``choose`` is asked only where there are two options or more.
        """
        chosen = {
            name: choose(options) if len(options) > 1 else options[0]
            for name, options in self.choices.items()
        }
        arguments = self.derive(chosen) if self.derive else chosen
        children = {key: v for key, v in arguments.items() if isinstance(v, ModuleSpec)}
        kwargs = {key: v for key, v in arguments.items() if key not in children}
        return ModuleSpec(self.name, kwargs, children)


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


def _norm(name: str, **more: tuple[Any, ...]) -> Entry:
    holds = (*_NO_BIAS, "weight+bias", *_STATISTICS, "nothing")
    return _takes(name, _tracking, num_features=_PAIR, holds=holds, **more)


def _batch_norm(name: str) -> Entry:
    # Without momentum the average is over all batches, as many as were counted.
    return _norm(name, momentum=(0.1, None))


def _tracking(chosen: _Arguments) -> _Arguments:
    track = chosen["holds"] in _STATISTICS
    return {**_affine(chosen), "track_running_stats": track}


def _grouped_norm(chosen: _Arguments) -> _Arguments:
    groups, width = chosen["num_groups"], chosen.pop("width")
    return {"num_channels": groups * width, **_affine(chosen)}


def _affine(chosen: _Arguments) -> _Arguments:
    holds = chosen.pop("holds")
    return {**chosen, "affine": "weight" in holds, **({"bias": False} if holds == "weight" else {})}


def _cell(name: str, **more: tuple[Any, ...]) -> Entry:
    return _takes(name, input_size=_PAIR, hidden_size=_PAIR, bias=_SWITCH, **more)


def _recurrent(name: str, derive: _Derive | None = None, /, **more: tuple[Any, ...]) -> Entry:
    return _takes(name, derive, num_layers=_PAIR, bidirectional=_SWITCH, bias=_SWITCH, **more)


def _projected(chosen: _Arguments) -> _Arguments:
    # A projection must be smaller than what is hidden.
    return {"hidden_size": 1 + chosen["proj_size"], **chosen}


def _bag(chosen: _Arguments) -> _Arguments:
    rows, padding = chosen.pop("rows")
    return {"num_embeddings": rows, **chosen, "padding_idx": padding}


def _attention(chosen: _Arguments) -> _Arguments:
    # Other sizes for keys and values make three weights of the one.
    kdim, vdim = chosen.pop("others")
    return {**chosen, "kdim": kdim, "vdim": vdim}


# Of two elements little more than which is greater is left when they are normalized.
_LAYER = {"d_model": (3,), "nhead": (1, 3), "dim_feedforward": (1,)}
_LAYER_SWITCHES = dict.fromkeys(("bias", "batch_first", "norm_first"), _SWITCH)


def _stack(name: str, layer: str, **more: tuple[Any, ...]) -> Entry:
    """A class that makes copies of the layer that it is given."""

    def stacked(chosen: _Arguments) -> _Arguments:
        sizes = {name: options[0] for name, options in _LAYER.items()}
        switches = {key: chosen.pop(key) for key in ("bias", "norm_first")}
        return {layer: ModuleSpec(f"{name}Layer", {**sizes, **switches}), **chosen}

    norm = (None, ModuleSpec("LayerNorm", {"normalized_shape": 3}))
    switches = dict.fromkeys(("bias", "norm_first"), _SWITCH)
    return Entry(name, {"num_layers": _PAIR, "norm": norm, **switches, **more}, stacked, slow=True)


_TWO_CLASSES = (0.5, 2.0)
_THREE_CLASSES = (0.5, 2.0, 3.0)


def _weighted(name: str, **more: tuple[Any, ...]) -> Entry:
    return _takes(name, weight=(_TWO_CLASSES, _THREE_CLASSES, None), **more)


def _both_weights(chosen: _Arguments) -> _Arguments:
    weight, pos_weight = chosen.pop("weights")
    return {"weight": weight, "pos_weight": pos_weight}


def _linear_loss(chosen: _Arguments) -> _Arguments:
    weight = _THREE_CLASSES[: chosen["num_classes"]] if chosen.pop("weighted") else None
    return {**chosen, "weight": weight}


_AFFINE = (True, False)

_ENTRIES = (
    _takes("Linear", in_features=_SIZE, out_features=_SIZE, bias=_SWITCH),
    _takes("PReLU", num_parameters=_SIZE),
    _takes("Embedding", num_embeddings=_SIZE, embedding_dim=_SIZE, padding_idx=(None, 0)),
    _takes(
        "EmbeddingBag",
        _bag,
        # A bag of nothing but padding would be empty.
        rows=((1, None), (2, None), (2, 0), (3, 1)),
        embedding_dim=_PAIR,
        mode=("mean", "sum", "max"),
        include_last_offset=_SWITCH,
    ),
    _takes("RMSNorm", normalized_shape=(1, 2, (2, 3)), elementwise_affine=_AFFINE),
    _takes(
        "LayerNorm",
        # One element alone is zero when it is normalized, whatever the weight.
        normalized_shape=(2, 3, (2, 3)),
        elementwise_affine=_AFFINE,
        bias=_SWITCH,
    ),
    _takes(
        "GroupNorm",
        _grouped_norm,
        num_groups=_PAIR,
        width=_PAIR,
        holds=(*_NO_BIAS, "weight+bias", "nothing"),
    ),
    *map(_batch_norm, ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")),
    *map(_norm, ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")),
    _convolution("Conv1d", 1, 2, 3),
    _convolution("Conv2d", 1, 2, (1, 3)),
    _convolution("Conv3d", 1, (1, 2, 3), 2),
    _convolution("ConvTranspose1d", 1, 2, 3),
    _convolution("ConvTranspose2d", 1, 2, (1, 3)),
    _convolution("ConvTranspose3d", 1, (1, 2, 3), 2),
    _takes("Bilinear", in1_features=_PAIR, in2_features=_PAIR, out_features=_SIZE, bias=_SWITCH),
    _cell("RNNCell", nonlinearity=("tanh", "relu")),
    *map(_cell, ("GRUCell", "LSTMCell")),
    _recurrent("RNN", input_size=(1,), hidden_size=_PAIR, nonlinearity=("tanh", "relu")),
    _recurrent("GRU", input_size=(1,), hidden_size=_PAIR, batch_first=_SWITCH),
    _recurrent("LSTM", _projected, input_size=(2,), proj_size=(0, 1), batch_first=_SWITCH),
    _takes(
        "AdaptiveLogSoftmaxWithLoss",
        # Each further cluster halves the features, which must last, and has a choice of its own.
        in_features=(4,),
        n_classes=(5,),
        cutoffs=((1,), (1, 3)),
        div_value=(2.0,),
        head_bias=_SWITCH,
    ),
    _takes(
        "LinearCrossEntropyLoss",
        _linear_loss,
        in_features=_PAIR,
        num_classes=(2, 3),
        out_features=((), (2,)),
        bias=_SWITCH,
        weighted=_SWITCH,
    ),
    *map(_weighted, ("BCELoss", "CrossEntropyLoss", "MultiLabelSoftMarginLoss", "NLLLoss")),
    _weighted("MultiMarginLoss", p=_PAIR),
    _takes(
        "BCEWithLogitsLoss",
        _both_weights,
        weights=(
            (_TWO_CLASSES, None),
            (None, _TWO_CLASSES),
            (_TWO_CLASSES, _TWO_CLASSES),
            (None, None),
        ),
    ),
    _takes(
        "MultiheadAttention",
        _attention,
        embed_dim=(2,),
        num_heads=(2,),
        bias=_SWITCH,
        add_bias_kv=_SWITCH,
        add_zero_attn=_SWITCH,
        others=((None, None), (1, None), (None, 3), (1, 3)),
        batch_first=_SWITCH,
    ),
    _takes("TransformerEncoderLayer", **_LAYER, **_LAYER_SWITCHES),
    _takes("TransformerDecoderLayer", **_LAYER, **_LAYER_SWITCHES),
    # These hold nothing.
    *map(_takes, ("Identity", "ReLU", "GELU", "Dropout", "Flatten")),
    # The largest, which the others shrink to.
    _stack("TransformerEncoder", "encoder_layer", enable_nested_tensor=(False,)),
    _stack("TransformerDecoder", "decoder_layer"),
    Entry(
        "Transformer",
        {
            # It warns where heads are odd or batches do not come first.
            "d_model": (4,),
            "nhead": (2,),
            "num_encoder_layers": (1,),
            "num_decoder_layers": (1,),
            "dim_feedforward": (1,),
            "batch_first": (True,),
        },
        slow=True,
    ),
)

CATALOGUE: dict[str, Entry] = {e.name: e for e in _ENTRIES if hasattr(nn, e.name)}
"""The classes that the installed torch has, by name, simplest first."""
