"""Features: each stands in its file and its docs, meets the others on one tensor, and projects add
their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import pytest_ckptload
from pytest_ckptload.strategies.assembly import Wish, assemble
from pytest_ckptload.zoo import FEATURES, forget, register
from pytest_ckptload.zoo.feature import Feature
from pytest_ckptload.zoo.features import FAMILIES

DESIGN = """
    tied tied-buffer shared-module view-parameter alias-attribute
    buffer-nonpersistent buffer-computed buffer-from-parameter buffer-scalar plain-attribute
    frozen parameter-subclass parameter-attributes parameter-hooks integer-parameters mixed-dtype
    low-precision complex scalar empty channels-last strided
    extra-state load-hooks custom-load nested-load value-dependent-init old-version parametrized
    weight-norm pruned lazy containers eval-mode compiled sparse-buffer
    views expanded noncontiguous conj-neg dtype-drift stride-drift parameters-saved device-tag
    missing-key extra-key shape-mismatch reordered prefixed nested metadata-stripped
    legacy unaligned deflated byteorder damaged hostile
    groups empty-group named-parameters partly-frozen tensor-lr fused foreach capturable state-dtype
    partial-state stateless scheduler built-before-load
"""


def test_every_feature_that_was_designed_is_there():
    assert set(DESIGN.split()) <= set(FEATURES)


def test_every_file_of_a_feature_is_registered():
    folder = Path(pytest_ckptload.__file__).parent / "zoo" / "features"
    files = [p for p in folder.glob("*/*.py") if p.name != "__init__.py"]
    assert {p.parent.name for p in files} == set(FAMILIES)
    assert len(files) == len(FEATURES)
    assert {p.stem.replace("_", "-") for p in files} == set(FEATURES)


@pytest.mark.parametrize("feature", FEATURES.values(), ids=lambda feature: feature.name)
def test_a_feature_says_what_it_is_in_one_sentence(feature):
    assert feature.sentence[0].isupper()
    assert feature.sentence.endswith(".")
    assert len(feature.sentence) < 120
    assert feature.references
    assert all(reference.count("#") == 1 for reference in feature.references)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("tied", "frozen"), "parameter"),
        (("parameter-subclass", "parameter-attributes"), "parameter"),
        (("tied", "views"), None),
        (("low-precision", "dtype-drift"), None),
    ],
)
def test_features_meet_on_one_tensor(names, kind):
    """What is put on tensors is put on those that another feature brought."""
    case = assemble([Wish(FEATURES[name]) for name in names])
    assert case.features == names or set(case.features) == set(names) - {"views"}
    assert len(case.module.children) in (0, 2)  # no module but that of the first
    if kind:
        alone = assemble([Wish(FEATURES[names[0]])]).module
        assert {*case.module.factories()} > {*alone.factories()}


def feature(**changes):
    given = {
        "name": "ours",
        "of": "module",
        "sentence": "It is ours.",
        "references": (),
        "apply": lambda plan, choose: plan.add("Ours"),
        "factories": (Ours,),
    }
    return Feature(**{**given, **changes})


class Ours(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


class Linear(nn.Module):
    pass


def tie():
    pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "tied"}, "there is a feature 'tied' already"),
        ({"factories": (Linear,)}, "feature 'ours': there is a 'Linear' already"),
        ({"factories": (tie,)}, "feature 'ours': there is a 'tie' already"),
        ({"of": "modules"}, "feature 'ours': of='modules'; there are: module, checkpoint, optimiz"),
    ],
)
def test_names_that_are_taken_are_refused(changes, message):
    before = dict(FEATURES)
    with pytest.raises(ValueError, match=message):
        register(feature(**changes))
    assert before == FEATURES


def test_what_is_forgotten_may_come_again():
    for _ in range(2):
        register(feature())
        assert "ours" in FEATURES
        forget(FEATURES["ours"])
    assert "ours" not in FEATURES


CONFTEST = """
import torch
from torch import nn
from pytest_ckptload import Feature

class Offset(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.register_buffer("offset", torch.arange(size) + 0.5, persistent=False)

def apply(plan, choose):
    plan.add("Offset", size=choose((2, 3)))

def pytest_ckptload_features(config):
    return [Feature("offset", "module", "An offset is computed.", (), apply, (Offset,))]
"""


def test_a_project_adds_a_feature(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        """
        import pytest
        from pytest_ckptload import CheckpointMismatch
        from pytest_ckptload.recipes import eager, mmap_meta_assign

        def test_check(ckptload):
            assert ckptload.check(eager, features=["offset"]).features["offset"] > 2
            with pytest.raises(CheckpointMismatch, match="CKPT303") as caught:
                ckptload.check(mmap_meta_assign, features=["offset"])
            assert "class Offset" in caught.value.script

        def test_everything(ckptload):
            assert ckptload.check(eager, max_examples=1).features["offset"] >= 5

        @pytest.mark.ckptload(features=["offset"], max_examples=5)
        def test_drawn(ckptload_case):
            assert set(ckptload_case.features) <= {"offset"}
        """
    )
    pytester.runpytest_inprocess("-p", "no:benchmark").assert_outcomes(passed=3)
    assert "offset" not in FEATURES  # with the session it is gone
    result = pytester.runpytest_inprocess(
        "-p", "no:benchmark", "ckptload::eager::offset", "ckptload::mmap::offset"
    )
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("['tied']", "*expected pytest_ckptload.Feature, not 'tied'*"),
        ("[__import__('pytest_ckptload').zoo.FEATURES['tied']]", "*there is a feature 'tied' alr*"),
    ],
)
def test_what_is_no_new_feature_is_refused(pytester, answer, message):
    pytester.makeconftest(f"def pytest_ckptload_features(config):\n    return {answer}")
    result = pytester.runpytest_inprocess("-p", "no:benchmark", "--ckptload")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
