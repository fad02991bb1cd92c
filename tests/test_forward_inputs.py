"""Every class of the catalogue runs on its inputs, the same way each time, and its output shows
each of its tensors: so a comparison of outputs means something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from mixtures import departures, each_entry, mixtures
from torch import nn

from pytest_ckptload.case import ModuleSpec
from pytest_ckptload.zoo import seeded
from pytest_ckptload.zoo.catalogue import CATALOGUE, Entry
from pytest_ckptload.zoo.inputs import INPUTS, Input, forward_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Torch says so once in a process, whichever call comes first.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

LINEAR = ModuleSpec("Linear", {"in_features": 2, "out_features": 1})
TABLE = ModuleSpec("Embedding", {"num_embeddings": 3, "embedding_dim": 2})


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Others would only be waited for: on a busy machine that is nine tenths of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tensors_in(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    parts = output if isinstance(output, tuple | list) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def outputs(spec: ModuleSpec, *, train: bool = False) -> list[torch.Tensor]:
    return outputs_with(spec, lambda state: None, train=train)


def outputs_with(
    spec: ModuleSpec, change: Callable[[dict[str, torch.Tensor]], None], *, train: bool = False
) -> list[torch.Tensor]:
    """What the module gives once its state was changed."""
    module = spec.build().train(train)
    ((path, arguments),) = forward_inputs(spec, module)
    assert path == ""
    with torch.no_grad(), seeded(5):
        change(module.state_dict())
        return tensors_in(module(*arguments))


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_there_are_inputs_for_every_class_and_for_no_other() -> None:
    assert {name for name in INPUTS if hasattr(nn, name)} == CATALOGUE.keys()


@each_entry
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_every_mixture_runs_and_gives_the_same_each_time(entry: Entry, train: bool) -> None:
    for spec in mixtures(entry):
        found = outputs(spec, train=train)
        assert found, f"{spec} gives nothing"
        assert all(tensor.numel() for tensor in found), f"{spec} gives something empty"
        assert all(tensor.isfinite().all() for tensor in found), f"{spec} gives what is not finite"
        assert same(found, outputs(spec, train=train)), f"{spec} gives something else each time"


@each_entry
def test_every_tensor_of_a_class_shows_in_its_output(entry: Entry) -> None:
    for spec in departures(entry):
        plain = outputs_with(spec, all_positive)
        # Only training looks at the counter of batches.
        for name in spec.build().state_dict().keys() - {"num_batches_tracked"}:
            assert not same(plain, outputs_with(spec, other(name))), f"{name} of {spec}"


def all_positive(state: dict[str, torch.Tensor]) -> None:
    """No rectified unit is off whatever its input."""
    for tensor in state.values():
        tensor.abs_()


def other(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        all_positive(state)
        ramp = torch.linspace(0.1, 0.9, state[name].numel())
        state[name].add_(ramp.reshape(state[name].shape))

    return change


def test_paths_lead_to_the_classes_within_containers() -> None:
    children = {"first": TABLE, "second": ModuleSpec("ModuleList", children={"0": LINEAR})}
    both = ModuleSpec("ModuleDict", children=children)
    spec = ModuleSpec("Sequential", children={"0": LINEAR, "1": both})
    module = spec.build()
    found = dict(forward_inputs(spec, module))
    assert list(found) == ["0", "1.first", "1.second.0"]
    for path, arguments in found.items():
        assert tensors_in(module.get_submodule(path)(*arguments))


def test_what_is_no_class_of_the_catalogue_has_no_inputs() -> None:
    children = {"0": ModuleSpec("TwoNames", {"size": 2}), "1": LINEAR}
    spec = ModuleSpec("Sequential", children=children)
    assert [path for path, _ in forward_inputs(spec, spec.build())] == ["1"]


@pytest.mark.parametrize("name", ["float64", "bfloat16", "complex64"])
def test_inputs_have_the_dtype_of_the_part_and_the_same_values(name: str) -> None:
    typed = ModuleSpec("Linear", {**LINEAR.kwargs, "dtype": name})
    spec = ModuleSpec("Sequential", children={"0": typed, "1": LINEAR, "2": TABLE})
    (_, (exact,)), (_, (plain,)), (_, (rows,)) = forward_inputs(spec, spec.build())
    assert (exact.dtype, plain.dtype, rows.dtype) == (
        getattr(torch, name),
        torch.float32,
        torch.int64,
    )
    assert torch.equal(exact, plain.to(exact.dtype))
    assert torch.equal(exact.to(torch.complex64), plain.to(torch.complex64))
    assert spec.build()[0](exact).dtype == exact.dtype  # type: ignore[index, operator]


def test_inputs_are_on_the_cpu_whatever_the_default_is() -> None:
    with torch.device("meta"):
        ((_, (made,)),) = forward_inputs(LINEAR, LINEAR.build())
    assert made.device.type == "cpu"


def test_inputs_lie_where_they_should_and_differ_by_salt() -> None:
    plain, salted = (Input((4, 8), salt).tensor(torch.float32) for salt in (0, 1))
    assert not torch.equal(plain, salted)
    assert -1 < plain.min() < 0 < plain.max() < 1
    assert plain.unique().numel() == plain.numel()
    positive = Input((4, 8), positive=True).tensor(torch.float32)
    assert 0 < positive.min() < positive.max() < 1
    rows = Input((5,), below=3).tensor(torch.bfloat16)
    assert rows.tolist() == [0, 1, 2, 0, 1]
