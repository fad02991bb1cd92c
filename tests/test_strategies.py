"""The public strategies: what they can give is found, is minimal, and can be used by anybody."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument, UnsatisfiedAssumption
from torch import nn

from pytest_ckptload import strategies
from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec
from pytest_ckptload.contents import FORMS, value_kinds
from pytest_ckptload.machine.dtypes import FILLED, PACKED, known, named
from pytest_ckptload.recipes import eager
from pytest_ckptload.strategies import covering, resume_covering
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.catalogue import CATALOGUE
from pytest_ckptload.zoo.structure import structure_of

FEW = settings(max_examples=2000, database=None, deadline=None)
DTYPES = [named(name) for name in known(FILLED)]


def make_model():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def drawn(strategy, count):
    """So many examples, drawn with one seed and the usual settings: all health checks are on."""
    seen = []

    @settings(max_examples=count, database=None, derandomize=True)
    @given(strategy)
    def draw(example):
        seen.append(example)

    draw()
    return seen


# --- tensors


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d not in PACKED], ids=str)
def test_tensors_of_every_dtype_are_found_and_small(dtype):
    tensor = find(strategies.tensors(), lambda t: t.dtype == dtype, settings=FEW)
    assert tensor.shape == ()
    assert tensor.device.type == "cpu"


def test_tensors_that_torch_cannot_print_are_there_for_the_asking():
    asked = [dtype for dtype in DTYPES if dtype in PACKED]
    assert {t.dtype for t in drawn(strategies.tensors(asked), 200)} == set(asked)


def test_the_smallest_tensor():
    tensor = find(strategies.tensors(), lambda t: t.numel() > 2, settings=FEW)
    assert (tensor.shape, tensor.dtype, tensor.stride()) == ((3,), torch.float32, (1,))
    assert tensor.isfinite().all()


LOOKS = {
    "transposed": lambda t: t.dim() == 2 and t.t().is_contiguous() and not t.is_contiguous(),
    "channels-last": lambda t: (
        t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous()
    ),
    "gaps": lambda t: t.dim() == 1 and t.stride() == (2,),
    "expanded": lambda t: 0 in t.stride(),
    "conjugated": lambda t: t.is_conj(),
    "negated": lambda t: t.is_neg(),
}


@pytest.mark.parametrize("form", LOOKS)
def test_every_form_is_found(form):
    found = find(
        strategies.tensors(),
        lambda t: LOOKS[form](t) if t.dim() != 4 or form == "channels-last" else False,
        settings=FEW,
    )
    assert LOOKS[form](found)
    assert set(LOOKS) | {"dense"} == set(FORMS)


@pytest.mark.parametrize("kind", value_kinds(torch.float32))
def test_every_kind_of_value_is_found(kind):
    only = strategies.tensors([torch.float32], values=[kind], shapes=[(2,)], forms=["dense"])
    plain = strategies.tensors([torch.float32], values=[], shapes=[(2,)], forms=["dense"])
    usual = {bytes(t.view(torch.uint8).tolist()) for t in drawn(plain, 200)}
    found = find(only, lambda t: bytes(t.view(torch.uint8).tolist()) not in usual, settings=FEW)
    assert found.shape == (2,)


def test_tensors_keep_to_what_is_asked():
    asked = strategies.tensors([torch.int8, torch.bool], shapes=st.just((2, 2)), forms=["gaps"])
    for tensor in drawn(asked, 50):
        assert tensor.dtype in (torch.int8, torch.bool)
        assert tensor.stride() == (4, 2)


# --- modules


def test_every_class_is_found_and_small():
    for name, entry in CATALOGUE.items():
        found = find(strategies.modules([name]), lambda spec: True, settings=FEW)
        assert found == entry.spec(lambda options: options[0])
        assert isinstance(found.build(), getattr(nn, name))


def test_modules_are_of_many_classes():
    met = Counter(name for spec in drawn(strategies.modules(), 1500) for name in spec.factories())
    assert {name for name, entry in CATALOGUE.items() if not entry.slow} <= set(met)


def test_the_smallest_module():
    found = find(strategies.modules(), lambda spec: True, settings=FEW)
    assert found == ModuleSpec("Linear", {"in_features": 1, "out_features": 1})


# --- checkpoints and state dicts

OF_FILES = [n for n, f in FEATURES.items() if f.of == "checkpoint" and f.ordinary()]


@pytest.mark.parametrize("name", [n for n in OF_FILES if n not in ("conj-neg", "stride-drift")])
def test_checkpoints_of_every_kind_are_written_and_loaded(name, tmp_path):
    wanted = strategies.checkpoints(make_model, features=[name])
    spec = find(wanted, lambda spec: spec != CheckpointSpec(), settings=FEW)
    spec.save(make_model(), tmp_path / "model.pt")
    assert isinstance(eager(make_model, tmp_path / "model.pt", torch.device("cpu")), nn.Module)


def test_the_smallest_checkpoint():
    found = find(strategies.checkpoints(make_model), lambda spec: True, settings=FEW)
    assert found == CheckpointSpec()
    assert set(found.state_dict(make_model())) == set(make_model().state_dict())


def test_formats_come_when_they_are_asked_for(tmp_path):
    formats = strategies.checkpoints(make_model, features=["legacy"])
    spec = find(formats, lambda spec: spec.format == "legacy", settings=FEW)
    spec.save(make_model(), tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").read_bytes().startswith(b"PK")
    usual = drawn(strategies.checkpoints(make_model), 200)
    assert {spec.format for spec in usual} == {"zip"}
    assert {spec.damage for spec in usual} == {None}


def test_no_two_tensors_of_a_state_dict_are_alike():
    for state in drawn(strategies.state_dicts(make_model, features=[]), 20):
        weights = [v.flatten().tolist() for v in state.values() if v.dtype == torch.float32]
        assert all(one != other for one in weights for other in weights if one is not other)
        assert not torch.equal(state["1.running_mean"], torch.zeros(3))


def test_state_dicts_of_random_modules():
    names = {name for state in drawn(strategies.state_dicts(), 100) for name in state}
    assert len(names) > 20


# --- cases


def test_every_ordinary_feature_is_in_some_case_and_no_other():
    met = Counter(n for case in drawn(strategies.cases(), 1500) for n in case.features)
    assert set(met) == {n for n, f in FEATURES.items() if f.of != "optimizer" and f.ordinary()}


def test_the_smallest_case():
    found = find(strategies.cases(), lambda case: True, settings=FEW)
    assert found == Case(ModuleSpec("Linear", {"in_features": 1, "out_features": 1}))


def test_features_that_are_always_there():
    for case in drawn(strategies.cases(features=["tied"], always=["frozen"]), 50):
        assert "frozen" in case.features
        assert set(case.features) <= {"tied", "frozen"}


@settings(max_examples=60, deadline=None)
@given(case=strategies.cases())
def test_a_case_in_anybodys_test(tmp_path_factory, case):
    path = tmp_path_factory.mktemp("case") / "model.pt"
    case.save(path)
    module = eager(case.build, path, torch.device("cpu"))
    assert [*module.state_dict()] == [*case.build().state_dict()]


def test_damage_is_left_to_checks(tmp_path):
    case = find(
        strategies.cases(features=["damaged"], always=["damaged"]), lambda c: True, settings=FEW
    )
    with pytest.raises(ValueError, match="is done by checks alone"):
        case.save(tmp_path / "model.pt")


# --- arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: strategies.cases(features=["tide"]), "features: there is no 'tide'; there are: "),
        (lambda: strategies.cases(features="tied"), "features='tied': expected a list of names"),
        (lambda: strategies.cases(without=["tide"]), "without: there is no 'tide'"),
        (lambda: strategies.cases(always=3), "always=3: expected a list of names"),
        (lambda: strategies.cases(features=["fused"]), "features: there is no 'fused'"),
        (lambda: strategies.modules(["Linea"]), "classes: there is no 'Linea'; there are: Linear,"),
        (lambda: strategies.modules([]), r"classes=\[\]: expected a list of names"),
        (lambda: strategies.modules(features=["views"]), "features: there is no 'views'"),
        (lambda: strategies.checkpoints(3), "build=3: expected a function without arguments"),
        (lambda: strategies.checkpoints(nn.Linear(1, 1)), "build=Linear"),
        (lambda: strategies.state_dicts(dict), "build=<class 'dict'>: expected a function"),
        (lambda: strategies.tensors([torch.int4]), r"dtypes=\[torch.int4\]: expected a list"),
        (lambda: strategies.tensors(torch.int8), "dtypes=torch.int8: expected a list of dtypes"),
        (lambda: strategies.tensors([]), r"dtypes=\[\]: expected a list of dtypes"),
        (lambda: strategies.tensors(shapes=[3]), r"shapes=\[3\]: expected a list of tuples"),
        (lambda: strategies.tensors(shapes=[(-1,)]), "shapes="),
        (lambda: strategies.tensors(forms=["flat"]), "forms: there is no 'flat'; there are: dense"),
        (lambda: strategies.tensors(values=["odd"]), "values: there is no 'odd'; there are: "),
    ],
)
def test_wrong_arguments_are_named_at_once(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (strategies.cases(features=["tied"]), "cases(features=('tied',))"),
        (strategies.modules(["Linear"]), "modules(('Linear',))"),
        (strategies.tensors([torch.int8], forms=[]), "tensors(dtypes=(torch.int8,)"),
        (strategies.checkpoints(make_model, features=[]), "checkpoints(build=make_model"),
        (strategies.state_dicts(make_model, features=[]), "state_dicts(build=make_model"),
    ],
)
def test_a_strategy_prints_as_the_call_that_made_it(strategy, text):
    assert repr(strategy).startswith(text)


# --- health


@pytest.mark.parametrize("name", ["cases", "modules", "state_dicts", "tensors"])
def test_nothing_is_drawn_in_vain(name):
    """No example that is begun is rejected. Hypothesis itself gives up some of its mutations."""
    ends = Counter()
    strategy = getattr(strategies, name)()

    @st.composite
    def counted(draw):
        try:
            example = draw(strategy)
        except UnsatisfiedAssumption:
            ends["rejected"] += 1
            raise
        ends["drawn"] += 1
        return example

    assert len(drawn(counted(), 200)) >= 200
    assert ends["drawn"] >= 200
    assert not ends["rejected"]


DIGEST = """
import hashlib, sys, warnings
import torch
warnings.simplefilter("ignore")
from hypothesis import given, settings, seed
from pytest_ckptload.strategies import covering, random_cases, resume_cases
from pytest_ckptload.contents import write
digest = hashlib.sha256()
for case in covering():
    digest.update(repr(case).encode())
for strategy in (random_cases(), resume_cases()):
    @seed(7)
    @settings(max_examples=60, database=None, deadline=None)
    @given(strategy)
    def draw(case):
        digest.update(case.to_json().encode())
        for name, tensor in case.checkpoint.state_dict(case.build()).items():
            if getattr(tensor, "layout", None) == torch.strided:
                digest.update(f"{name} {tensor.dtype} {tensor.stride()}".encode())
                digest.update(bytes(tensor.untyped_storage().tolist()))
    draw()
print(digest.hexdigest())
"""


@pytest.mark.parametrize(
    "structure", [None, structure_of(make_model())], ids=["generated", "given"]
)
def test_the_covering_set_takes_turns(structure):
    """A plain case, then one of each feature before another of any, and no pair before them."""
    plain, *others = [case.features for case in covering(structure=structure)]
    assert plain == ()
    single = [features[0] for features in others if len(features) == 1]
    firsts = list(dict.fromkeys(single))
    assert single[: len(firsts)] == firsts
    assert len(firsts) > 15
    numbers = [len(features) for features in others]
    assert max(numbers[: len(firsts)]) == 1
    assert numbers.index(2) > 2 * len(firsts)


def test_the_covering_set_of_resumers_has_modules_and_optimizers_in_turn():
    some = [case.features for case in islice(resume_covering(), 10)]
    of = [{FEATURES[name].of for name in features} for features in some]
    assert some[0] == ()
    assert of[1::2] == [{"optimizer"}] * 5
    assert not any("optimizer" in halves for halves in of[::2])


def test_the_same_seed_gives_the_same_cases_in_every_process():
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1
    assert len(digests.pop().strip()) == len(hashlib.sha256().hexdigest())
