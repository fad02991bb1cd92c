"""Cases are data: they print, go through JSON, and make the same module and file every time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from pytest_ckptload import case as case_module
from pytest_ckptload.case import Case, CheckpointSpec, Damage, ModuleSpec, TensorSpec, View
from pytest_ckptload.contents import state_of, write
from pytest_ckptload.damage import damaged
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.observe import observe
from pytest_ckptload.observe.tensors import same_bits
from pytest_ckptload.strategies import covering, random_cases

NAMES = {name: getattr(case_module, name) for name in case_module.__all__}

FULL = Case(
    ModuleSpec(
        "Sequential",
        children={
            "0": ModuleSpec("Conv2d", {"in_channels": 1, "out_channels": 1, "kernel_size": (1, 2)})
        },
        edits=(case_module.Edit("freeze", {"name": "0.weight"}),),
    ),
    CheckpointSpec(
        {"0.weight": TensorSpec("float64", (1, 2), ((0, "nan-payload"),), "gaps", False)},
        (View(("a", "b"), 3),),
        "differ",
        ("0.bias",),
        {"more": TensorSpec(shape=(2,))},
        Damage("truncated", 0.25),
        "sorted",
        "module.",
        "state_dict",
        False,
        "legacy",
        "cuda:0",
    ),
    ("frozen", "damaged"),
    7,
)


def examples():
    return [FULL, *covering()]


def test_a_case_prints_as_itself():
    for case in examples():
        assert eval(repr(case), NAMES) == case


def test_a_case_goes_through_json():
    for case in examples():
        assert Case.from_json(case.to_json()) == case


@settings(max_examples=50, deadline=None)
@given(random_cases())
def test_a_drawn_case_prints_and_goes_through_json(case):
    assert eval(repr(case), NAMES) == case
    assert Case.from_json(case.to_json()) == case


def test_defaults_are_left_out():
    assert repr(Case(ModuleSpec("Linear", {"in_features": 1}))) == (
        "Case(module=ModuleSpec(factory='Linear', kwargs={'in_features': 1}))"
    )
    assert Case().to_json() == "{}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "Expecting value"),
        ('{"modul": {}}', "unknown keys ['modul']; a Case has module, checkpoint,"),
        ('{"module": {"kwargs": {}}}', "required positional argument: 'factory'"),
        ('{"checkpoint": {"tensor": {}}}', "unknown keys ['tensor']; a CheckpointSpec has tensors"),
        ("[]", "not a case"),
        ('{"checkpoint": 3}', "not a case"),
    ],
)
def test_what_is_no_case_is_refused(text, message):
    with pytest.raises(ValueError) as caught:
        Case.from_json(text)
    assert message in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(random_cases())
def test_a_case_builds_the_same_module_every_time_and_on_meta(case):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = observe(case.build()), observe(case.build())
    try:
        with torch.device("meta"):
            on_meta = observe(case.build())
    except RuntimeError:
        assert {"value-dependent-init", "parametrized"} & set(case.features)
        return
    assert torch.equal(before, torch.get_rng_state())
    assert list(first.places) == list(second.places) == list(on_meta.places)
    for name, place in first.places.items():
        assert same_bits(place.tensor, second.places[name].tensor)
        other = on_meta.places[name]
        assert other.tensor.is_meta
        assert (other.kind, other.tensor.shape, other.tensor.dtype) == (
            place.kind,
            place.tensor.shape,
            place.tensor.dtype,
        )


@settings(max_examples=25, deadline=None)
@given(random_cases())
def test_a_case_writes_the_same_file_every_time(tmp_path_factory, case):
    folder = tmp_path_factory.mktemp("same")
    written = []
    for name in ("one", "two"):
        subject = Subject.of(case)
        # torch.save names the archive's folder after the file: so the file must have one name.
        path = folder / name / "checkpoint.pt"
        path.parent.mkdir()
        state = state_of(subject.fresh, subject.structure, case.checkpoint)
        write(state, path)
        with damaged(path, case.checkpoint.damage or Damage("data")):
            written.append(path.read_bytes() if path.is_file() else path.stat().st_mode)
    assert written[0] == written[1]


def test_a_case_without_a_module_says_so():
    with pytest.raises(ValueError, match="made for a given build="):
        Case().build()
