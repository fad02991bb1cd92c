"""Parameters in lists and dicts, and lists and dicts of modules inside each other."""

from __future__ import annotations

import torch
from torch import nn

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


class ListOfParameters(nn.Module):
    """Parameters in a list: enough of them for "10" to stand before "2"."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.ones(1) for _ in range(count))


class DictOfParameters(nn.Module):
    """Parameters in a dict, in an order that is not that of their names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({name: torch.ones(1) for name in names})


class Nested(nn.Module):
    """A list of dicts of lists of modules."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.ModuleDict({"b": nn.ModuleList([nn.PReLU(size)]), "a": nn.PReLU(size)})]
        )


def _apply(plan: Plan, choose: Choose) -> None:
    form = choose(("ListOfParameters", "DictOfParameters", "Nested"))
    if form == "ListOfParameters":
        plan.add(form, count=choose((1, 2, 11)))
    elif form == "DictOfParameters":
        plan.add(form, names=choose((("b", "a"), ("2", "10", "1"))))
    else:
        plan.add(form, size=choose((1, 2)))


FEATURE = Feature(
    name="containers",
    of="module",
    sentence="Parameters are in a ParameterList or ParameterDict; module containers are nested.",
    references=("huggingface/transformers#36495", "huggingface/transformers#46014"),
    apply=_apply,
    factories=(ListOfParameters, DictOfParameters, Nested),
)
