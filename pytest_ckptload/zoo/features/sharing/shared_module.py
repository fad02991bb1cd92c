"""One module under two names: all its tensors are tied with it."""

from __future__ import annotations

from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def share(module: nn.Module, source: str, name: str) -> None:
    """Register the submodule ``source`` once more, as ``name``."""
    module.add_module(name, module.get_submodule(source))


def _apply(plan: Plan, choose: Choose) -> None:
    size = choose((1, 2, 3))
    kind = choose(("Linear", "BatchNorm1d"))
    sizes = (
        {"in_features": size, "out_features": size} if kind == "Linear" else {"num_features": size}
    )
    prefix = plan.add(kind, **sizes)
    plan.edit("share", source=prefix.rstrip("."), name=f"shared{len(plan.edits)}")


FEATURE = Feature(
    name="shared-module",
    of="module",
    sentence="One module is registered under two names, and all its tensors with it.",
    references=("pytorch/pytorch#188346", "huggingface/accelerate#2875"),
    apply=_apply,
    factories=(share,),
)
