"""Lazy modules: parameters and buffers without a shape, until a file or an input gives them one."""

from __future__ import annotations

import warnings

from torch import nn

from pytest_ckptload.case import TensorSpec
from pytest_ckptload.zoo.feature import Choose, Covered, Feature, Plan


def lazy(kind: str, **arguments: object) -> nn.Module:
    """A module of the lazy class ``kind``, not initialised."""
    with warnings.catch_warnings():
        # Older releases of torch call these classes a new feature each time.
        warnings.simplefilter("ignore")
        return getattr(nn, kind)(**arguments)  # type: ignore[no-any-return]


_KINDS = Covered.of(
    (
        "LazyLinear",
        *(f"Lazy{kind}{d}d" for kind in ("Conv", "ConvTranspose", "BatchNorm") for d in (1, 2, 3)),
        *(f"LazyInstanceNorm{d}d" for d in (1, 2, 3)),
    )
)


def _apply(plan: Plan, choose: Choose) -> None:
    kind, size = choose(_KINDS), choose((1, 3))
    plan.numbered = True
    shapes: dict[str, tuple[int, ...]]
    if kind == "LazyLinear":
        prefix = plan.add("lazy", kind=kind, out_features=2)
        shapes = {"weight": (2, size), "bias": (2,)}
    elif "Conv" in kind:
        prefix = plan.add("lazy", kind=kind, out_channels=2, kernel_size=1)
        channels = (size, 2) if "Transpose" in kind else (2, size)
        shapes = {"weight": (*channels, *(1,) * int(kind[-2])), "bias": (2,)}
    else:
        prefix = plan.add("lazy", kind=kind, affine=True, track_running_stats=True)
        shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (size,))
    for name, shape in shapes.items():
        plan.tensors[prefix + name] = TensorSpec(shape=shape)


FEATURE = Feature(
    name="lazy",
    of="module",
    sentence="A module is lazy: its tensors have no shape until the file gives them one.",
    references=("pytorch/pytorch#147389", "pfnet/pytorch-pfn-extras#187"),
    apply=_apply,
    factories=(lazy,),
)
