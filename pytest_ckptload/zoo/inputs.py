"""What the classes of the catalogue are called with, so that behaviour can be compared.

Apart from the catalogue because nothing is drawn here: the arguments of a class say all about the
tensors that it takes. These stand as data until somebody asks for them in a dtype. They are
patterns, few and tiny, the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pytest_ckptload.case import ModuleSpec
from pytest_ckptload.zoo.catalogue import CATALOGUE

__all__ = ["INPUTS", "Input", "Inputs", "forward_inputs", "inputs_of"]


@dataclass(frozen=True)
class Input:
    """One tensor that a module is called with.

    ``below`` is given for indices, which are less. All other elements lie between -1 and 1, above 0
    with ``positive``. ``salt`` tells inputs of one shape apart.
    """

    shape: tuple[int, ...]
    salt: int = 0
    below: int | None = None
    positive: bool = False

    def tensor(self, dtype: torch.dtype) -> torch.Tensor:
        """The tensor, on the CPU; ``dtype`` is that of elements which are no indices."""
        steps = torch.arange(math.prod(self.shape), device="cpu").reshape(self.shape)
        if self.below is not None:
            return steps % self.below
        # Few bits, which bfloat16 holds, too: a case means the same in every dtype.
        ramp = (steps * 37 + 11 * self.salt + 5) % 64
        return ((ramp + 1) / 128 if self.positive else (ramp * 2 - 63) / 64).to(dtype)


Inputs = tuple["Input | tuple[Input, ...]", ...]
"""The positional arguments of one call."""

_Describe = Callable[[ModuleSpec], Inputs]


def inputs_of(spec: ModuleSpec) -> Inputs:
    """What a class of the catalogue is called with.

    Raises ``KeyError`` where ``spec`` is none.
    """
    return INPUTS[spec.factory](spec)


def forward_inputs(spec: ModuleSpec, module: nn.Module) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each class of the catalogue in ``spec``: its path, and tensors on the CPU to call it with.

    ``module`` was built from ``spec`` and is asked for dtypes only: what is no index has that of
    the first floating or complex tensor in the part that it is for. The call may raise all the
    same, where a feature made the part what torch does not compute with.
    """
    for path, leaf in _leaves(spec, ""):
        dtype = _dtype(module.get_submodule(path))
        yield path, tuple(_tensors(given, dtype) for given in inputs_of(leaf))


def _tensors(given: Input | tuple[Input, ...], dtype: torch.dtype) -> Any:
    if isinstance(given, Input):
        return given.tensor(dtype)
    return tuple(part.tensor(dtype) for part in given)


def _leaves(spec: ModuleSpec, path: str) -> Iterator[tuple[str, ModuleSpec]]:
    if spec.factory in CATALOGUE:
        yield path, spec
    elif spec.factory in ("Sequential", "ModuleList", "ModuleDict"):
        for index, (name, child) in enumerate(spec.children.items()):
            step = name if spec.factory == "ModuleDict" else str(index)
            yield from _leaves(child, f"{path}.{step}" if path else step)


def _dtype(module: nn.Module) -> torch.dtype:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            return tensor.dtype
    return torch.float32


def _features(*arguments: str) -> _Describe:
    """For each of these arguments, two rows as long as it says."""
    return lambda spec: tuple(Input((2, spec.kwargs[a]), i) for i, a in enumerate(arguments))


def _images(channels: str, *sizes: int) -> _Describe:
    """Two images of these ``sizes``, with as many channels as that argument says."""
    return lambda spec: (Input((2, spec.kwargs[channels], *sizes)),)


def _sequences(width: str, count: int = 1) -> _Describe:
    """So many times two sequences: of two steps each, so that either may be the first axis."""
    return lambda spec: tuple(Input((2, 2, spec.kwargs[width]), salt) for salt in range(count))


def _samples(classes: str) -> _Describe:
    """A sample of each class, and the classes."""

    def samples(spec: ModuleSpec) -> Inputs:
        count = spec.kwargs[classes]
        shape = (count, *spec.kwargs.get("out_features", ()))
        return Input((count, spec.kwargs["in_features"])), Input(shape, below=count)

    return samples


def _like(child: str) -> _Describe:
    """What the child takes that stands under this name."""
    return lambda spec: inputs_of(spec.children[child])


def _cell(spec: ModuleSpec) -> Inputs:
    hidden = tuple(Input((2, spec.kwargs["hidden_size"]), salt) for salt in (1, 2))
    state = hidden if spec.factory == "LSTMCell" else hidden[0]
    return Input((2, spec.kwargs["input_size"])), state


def _rows(spec: ModuleSpec) -> Inputs:
    return (Input((4,), below=spec.kwargs["num_embeddings"]),)


def _bags(spec: ModuleSpec) -> Inputs:
    # They begin at 0, 1 and 2; where the last offset is an end, there is nothing after it: torch
    # reads memory that is nobody's for the gradient of what is in no bag.
    count = 2 if spec.kwargs["include_last_offset"] else 4
    return Input((count,), below=spec.kwargs["num_embeddings"]), Input((3,), below=3)


def _normalized(spec: ModuleSpec) -> Inputs:
    shape = spec.kwargs["normalized_shape"]
    return (Input((2, *(shape if isinstance(shape, tuple) else (shape,)))),)


def _attention(spec: ModuleSpec) -> Inputs:
    query = spec.kwargs["embed_dim"]
    widths = (query, spec.kwargs["kdim"] or query, spec.kwargs["vdim"] or query)
    return tuple(Input((2, 2, width), salt) for salt, width in enumerate(widths))


def _weights(spec: ModuleSpec) -> int:
    given = (spec.kwargs.get(name) for name in ("weight", "pos_weight"))
    return len(next(filter(None, given), (1, 1)))


def _one_class(spec: ModuleSpec) -> Inputs:
    return Input((4, _weights(spec))), Input((4,), below=_weights(spec))


def _all_classes(spec: ModuleSpec) -> Inputs:
    shape = (4, _weights(spec))
    return Input(shape, positive=True), Input(shape, 1, positive=True)


INPUTS: Mapping[str, _Describe] = {
    "Linear": _features("in_features"),
    "Bilinear": _features("in1_features", "in2_features"),
    "PReLU": _features("num_parameters"),
    "Embedding": _rows,
    "EmbeddingBag": _bags,
    **dict.fromkeys(("RMSNorm", "LayerNorm"), _normalized),
    "GroupNorm": _images("num_channels", 3),
    **dict.fromkeys(("BatchNorm1d", "InstanceNorm1d"), _images("num_features", 3)),
    **dict.fromkeys(("BatchNorm2d", "InstanceNorm2d"), _images("num_features", 3, 2)),
    **dict.fromkeys(("BatchNorm3d", "InstanceNorm3d"), _images("num_features", 3, 2, 1)),
    "SyncBatchNorm": _images("num_features", 3),
    **dict.fromkeys(("Conv1d", "ConvTranspose1d"), _images("in_channels", 4)),
    **dict.fromkeys(("Conv2d", "ConvTranspose2d"), _images("in_channels", 3, 4)),
    **dict.fromkeys(("Conv3d", "ConvTranspose3d"), _images("in_channels", 2, 3, 4)),
    **dict.fromkeys(("RNNCell", "GRUCell", "LSTMCell"), _cell),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _sequences("input_size")),
    "AdaptiveLogSoftmaxWithLoss": _samples("n_classes"),
    "LinearCrossEntropyLoss": _samples("num_classes"),
    **dict.fromkeys(("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"), _one_class),
    **dict.fromkeys(("BCELoss", "BCEWithLogitsLoss", "MultiLabelSoftMarginLoss"), _all_classes),
    "MultiheadAttention": _attention,
    "TransformerEncoderLayer": _sequences("d_model"),
    "TransformerDecoderLayer": _sequences("d_model", 2),
    "TransformerEncoder": _like("encoder_layer"),
    "TransformerDecoder": _like("decoder_layer"),
    "Transformer": _sequences("d_model", 2),
    **dict.fromkeys(("Identity", "ReLU", "GELU", "Dropout", "Flatten"), lambda _: (Input((2, 3)),)),
}
"""What describes the inputs of each class, by its name."""
