"""The catalogue holds what it says: every class builds with every mixture of arguments, small and
the same each time, and no class of ``torch.nn`` is left out without a reason.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from mixtures import each_entry, mixtures
from torch import nn

from pytest_ckptload import zoo
from pytest_ckptload.case import ModuleSpec
from pytest_ckptload.strategies import covering, modules
from pytest_ckptload.zoo.catalogue import CATALOGUE, Entry
from pytest_ckptload.zoo.feature import first

if TYPE_CHECKING:
    from collections.abc import Sequence

STATELESS = {"Identity", "ReLU", "GELU", "Dropout", "Flatten"}

LEFT_OUT_BECAUSE = {
    "an activation, holds nothing": """
        CELU ELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid LogSoftmax Mish
        RReLU ReLU6 SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh
        Tanhshrink Threshold
    """,
    "a dropout, holds nothing": """
        AlphaDropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout
    """,
    "pooling or padding, holds nothing": """
        AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d
        AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d FractionalMaxPool2d FractionalMaxPool3d
        LPPool1d LPPool2d LPPool3d MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d
        CircularPad1d CircularPad2d CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d
        ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d
        ReplicationPad3d ZeroPad1d ZeroPad2d ZeroPad3d
    """,
    "a function of shapes or distances, holds nothing": """
        ChannelShuffle CosineSimilarity CrossMapLRN2d Fold LocalResponseNorm PairwiseDistance
        PixelShuffle PixelUnshuffle Unflatten Unfold Upsample UpsamplingBilinear2d
        UpsamplingNearest2d
    """,
    "a loss, holds nothing": """
        CTCLoss CosineEmbeddingLoss GaussianNLLLoss HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss
        MSELoss MarginRankingLoss MultiLabelMarginLoss PoissonNLLLoss SmoothL1Loss SoftMarginLoss
        TripletMarginLoss TripletMarginWithDistanceLoss
    """,
    "deprecated for NLLLoss, warns": "NLLLoss2d",
    "a container, whose children are drawn": "Container ModuleDict ModuleList Sequential",
    "moves its module to the GPU while it is built, where there is one": "DataParallel",
    "a base class": "Module RNNBase RNNCellBase",
    "a feature of its own (containers)": "ParameterDict ParameterList",
    "a feature of its own (lazy)": """
        LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d LazyConv1d LazyConv2d LazyConv3d
        LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d LazyInstanceNorm1d
        LazyInstanceNorm2d LazyInstanceNorm3d LazyLinear
    """,
}
LEFT_OUT = {name: why for why, names in LEFT_OUT_BECAUSE.items() for name in names.split()}

# Enough to build every class that holds nothing.
PLAIN_ARGUMENTS = {
    **dict.fromkeys(["dim", "groups", "kernel_size", "output_size", "size"], 1),
    **dict.fromkeys(["downscale_factor", "upscale_factor", "norm_type"], 1),
    **dict.fromkeys(["padding", "threshold", "value"], 0),
    "unflattened_size": (1, 1),
}


def classes() -> dict[str, type[nn.Module]]:
    """Every module class of ``torch.nn``."""
    return {
        name: value
        for name, value in vars(nn).items()
        if isinstance(value, type) and issubclass(value, nn.Module)
    }


def size(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.state_dict().values())


def weight(module: nn.Module) -> tuple[int, int]:
    return len(module.state_dict()), size(module)


@each_entry
def test_first_choices_build_a_small_module_that_holds_state(entry: Entry) -> None:
    module = entry.spec(first).build()
    assert type(module) is getattr(nn, entry.name)
    assert size(module) <= 350
    assert bool(module.state_dict()) is (entry.name not in STATELESS)


@each_entry
def test_every_mixture_builds_small_and_as_large_on_meta(entry: Entry) -> None:
    for spec in mixtures(entry):
        module = spec.build()
        assert size(module) <= 350, f"{spec} is too large"
        with torch.device("meta"):
            ghost = spec.build()
        state, ghosts = module.state_dict(), ghost.state_dict()
        assert {t.device.type for t in ghosts.values()} <= {"meta"}, f"{spec} is not all on meta"
        assert {name: (t.shape, t.dtype) for name, t in ghosts.items()} == {
            name: (t.shape, t.dtype) for name, t in state.items()
        }, f"{spec} is another module on meta"


@each_entry
def test_every_mixture_is_the_same_for_the_same_seed(entry: Entry) -> None:
    for spec in mixtures(entry):
        state = zoo.build(spec, seed=7).state_dict()
        torch.rand(1)
        again = zoo.build(spec, seed=7).state_dict()
        assert list(state) == list(again)
        for name, tensor in state.items():
            assert torch.equal(tensor, again[name]), f"{name} of {spec} differs between builds"


@each_entry
def test_every_mixture_survives_json(entry: Entry) -> None:
    for spec in mixtures(entry):
        data = json.loads(json.dumps(spec.as_dict()))
        assert ModuleSpec.from_dict(data) == spec


@each_entry
def test_first_choices_have_the_fewest_tensors_and_elements(entry: Entry) -> None:
    smallest = weight(entry.spec(first).build())
    for spec in mixtures(entry):
        module = spec.build()
        assert not module.state_dict() or smallest <= weight(module), f"{spec} is smaller"


@each_entry
def test_few_choices_are_drawn(entry: Entry) -> None:
    assert sum(len(options) > 1 for options in entry.choices.values()) <= 5
    for options in entry.choices.values():
        assert options
        assert all(options.count(option) == 1 for option in options)


def test_options_of_one_choice_are_drawn_without_asking() -> None:
    def choose(options: Sequence[Any], /) -> Any:
        raise AssertionError("there was nothing to choose")

    expected = ModuleSpec("Linear", {"in_features": 1})
    assert Entry("Linear", {"in_features": (1,)}).spec(choose) == expected


def test_most_classes_hold_state() -> None:
    assert next(iter(CATALOGUE)) == "Linear"
    assert len(CATALOGUE.keys() - STATELESS) >= 40


def test_what_is_slow_to_build_is_for_the_covering_set_alone() -> None:
    slow = {entry.name for entry in CATALOGUE.values() if entry.slow}
    assert slow == {"Transformer", "TransformerEncoder", "TransformerDecoder"}
    assert slow <= {name for case in covering() for name in case.classes()}
    # Any other class would turn up: each is one leaf in fifty.
    drawn: set[str] = set()

    @settings(max_examples=500, database=None, derandomize=True)
    @given(modules(features=[]))
    def draw(module: ModuleSpec) -> None:
        drawn.update(module.factories())

    draw()
    assert not drawn & slow
    assert {"TransformerEncoderLayer", "TransformerDecoderLayer"} <= drawn


def test_every_class_of_torch_is_in_the_catalogue_or_left_out_for_a_reason() -> None:
    assert not CATALOGUE.keys() - classes().keys(), "the catalogue names what is no class of torch"
    assert not CATALOGUE.keys() & LEFT_OUT.keys(), "in the catalogue, and left out too"
    new = sorted(classes().keys() - CATALOGUE.keys() - LEFT_OUT.keys())
    assert not new, f"torch.nn has {new}: add them to the catalogue, or here with a reason"


def test_torch_exports_no_module_that_is_not_among_these_classes() -> None:
    exported = {name: getattr(nn.modules, name) for name in nn.modules.__all__}
    modules = {n for n, c in exported.items() if isinstance(c, type) and issubclass(c, nn.Module)}
    assert modules <= classes().keys()


def test_every_class_that_torch_tests_is_in_the_catalogue_or_left_out_for_a_reason() -> None:
    tested = in_module_db()
    assert len(tested) > 80
    assert tested <= CATALOGUE.keys() | LEFT_OUT.keys()


def in_module_db() -> set[str]:
    """The classes in ``module_db``. It is read, not imported: that takes expecttest and numpy."""
    spec = importlib.util.find_spec("torch.testing._internal.common_modules")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    (database,) = (
        statement.value
        for statement in ast.parse(source).body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and statement.target.id == "module_db"
    )
    assert isinstance(database, ast.List)
    names = [ast.unparse(e.args[0]) for e in database.elts if isinstance(e, ast.Call)]
    assert len(names) == len(database.elts)
    assert all(name.startswith("torch.nn.") for name in names)
    return {name.removeprefix("torch.nn.") for name in names}


@pytest.mark.parametrize("name", [name for name, why in LEFT_OUT.items() if "holds nothing" in why])
def test_what_is_said_to_hold_nothing_holds_nothing(name: str) -> None:
    made = classes().get(name)
    if made is None:
        pytest.skip(f"this torch has no {name}")
    taken = inspect.signature(made).parameters
    module = made(**{key: value for key, value in PLAIN_ARGUMENTS.items() if key in taken})
    assert not list(module.parameters()) + list(module.buffers())
