"""Which ingredient of a recipe is to blame for a finding."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from pytest_ckptload import recipes
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.checks.ingredients import blame, ingredients_of
from pytest_ckptload.finding import CheckpointMismatch, Finding, Verdict
from pytest_ckptload.recipes import RECIPES, RESUMERS


def failure(recipe, feature, **arguments):
    """What a check of a recipe says, given files with one feature and nothing random."""
    checker = Checker(Defaults(features=(feature,), promises=("formats",), max_examples=0))
    resumes = recipe in RESUMERS.values()
    check = checker.check_resume if resumes else checker.check
    with pytest.raises(CheckpointMismatch) as caught:
        check(recipe, devices=["cpu"], **arguments)
    return caught.value


def said(error):
    (line,) = [p for p in error.report.split("\n\n") if p.startswith("The ingredient")]
    return " ".join(line.split()).removeprefix("The ingredient: ")


ALONE = "{} alone gives the same finding; {} alone and {} alone do not."


@pytest.mark.parametrize(
    ("feature", "code", "culprit"),
    [
        ("tied", "CKPT401", ALONE.format("assign", "mmap", "meta")),
        ("buffer-nonpersistent", "CKPT303", ALONE.format("meta", "mmap", "assign")),
        ("deflated", "CKPT101", ALONE.format("mmap", "meta", "assign")),
        ("value-dependent-init", "CKPT803", ALONE.format("meta", "mmap", "assign")),
        ("expanded", None, ALONE.format("assign", "mmap", "meta")),
        ("views", "CKPT402", ALONE.format("assign", "mmap", "meta")),
        ("legacy", "CKPT803", ALONE.format("mmap", "meta", "assign")),
        (
            "alias-attribute",
            "CKPT303",
            (
                "meta alone gives the same finding; assign alone gives CKPT401 in its place; "
                "mmap alone does not."
            ),
        ),
    ],
)
def test_the_ingredient_is_named(feature, code, culprit):
    error = failure(recipes.mmap_meta_assign, feature)
    assert code in (None, error.findings[0].code)
    assert said(error) == culprit


def test_a_recipe_that_casts_is_judged_by_its_ingredients_without_the_cast():
    cast = partial(recipes.mmap_stream, dtype=torch.bfloat16)
    error = failure(cast, "tied", dtype=torch.bfloat16)
    assert said(error) == ALONE.format("assign", "mmap", "meta")


def test_swapping_is_an_ingredient():
    error = failure(recipes.mmap_meta_swap, "weight-norm")
    assert said(error) == ALONE.format("swap", "mmap", "meta")


def test_resumers_have_ingredients_as_well():
    error = failure(recipes.mmap_meta_assign_resume, "tied")
    assert error.findings[0].code == "CKPT803"
    assert said(error) == ALONE.format("assign", "mmap", "meta")


def test_a_death_is_blamed_as_well(tmp_path):
    """On one ingredient, which dies of it like the recipe."""
    from pytest_ckptload.case import Case, CheckpointSpec
    from pytest_ckptload.strategies import covering

    case = next(c for c in covering() if c.features == ("sparse-buffer",))
    case = Case(case.module, CheckpointSpec(format="deflated"), features=case.features)
    checker = Checker(Defaults(promises=("formats",), replay=case))
    with pytest.raises(CheckpointMismatch) as caught:
        checker.check(recipes.mmap_meta_assign)
    assert said(caught.value) == ALONE.format("mmap", "meta", "assign")


def test_nothing_is_said_of_other_loaders():
    def ours(build, path, device):
        return recipes.mmap_meta_assign(build, path, device)

    assert "The ingredient" not in failure(ours, "tied").report
    assert ingredients_of(ours) == {}
    assert ingredients_of(recipes.eager) == {}


def test_nothing_is_said_of_a_file_that_is_given(tmp_path):
    """It may be large, and would be read three times more."""

    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = self.b = torch.nn.Parameter(torch.ones(2))

    torch.save(Tied().state_dict(), tmp_path / "tied.pt")
    with pytest.raises(CheckpointMismatch, match="CKPT401") as caught:
        Checker().check(recipes.mmap_meta_assign, build=Tied, checkpoint=tmp_path / "tied.pt")
    assert "The ingredient" not in caught.value.report


def test_every_recipe_has_those_that_its_name_says():
    for name, recipe in {**RECIPES, **RESUMERS}.items():
        words = [w for w in name.split("_") if w in ("mmap", "meta", "assign", "swap")]
        streams = ["meta", "assign"] if name == "mmap_stream" else []
        assert list(ingredients_of(recipe)) == words + streams


# --- the sentence

FINDING = Finding("CKPT401", "tie-lost", "a = b", "", "", "", ("a", "b"))
ELSEWHERE = Finding("CKPT401", "tie-lost", "c = d", "", "", "", ("c", "d"))
ANOTHER = Finding("CKPT102", "uninitialised", "b", "", "", "", ("b",))
ON_META = Finding("CKPT303", "left-on-meta", "b", "", "", "", ("b",))
ADVICE = Finding("CKPT307", "mode-changed", "a", "", "", "", ("a",), advice=True)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            {"mmap": [FINDING], "meta": [FINDING, ANOTHER], "assign": [ELSEWHERE]},
            "mmap alone and meta alone give the same finding; assign alone does not.",
        ),
        (
            {"mmap": [ADVICE], "meta": [ANOTHER], "assign": [ANOTHER, FINDING]},
            (
                "assign alone gives the same finding; meta alone gives CKPT102 in its place; "
                "mmap alone does not."
            ),
        ),
        (
            {"mmap": [], "meta": [], "assign": []},
            "no single one; mmap alone, meta alone and assign alone do not give it.",
        ),
        ({"mmap": [FINDING]}, "mmap alone gives the same finding."),
        (
            {"mmap": [], "meta": [ON_META], "assign": [FINDING]},
            "assign alone gives the same finding; mmap alone and meta alone do not.",
        ),
    ],
)
def test_the_sentence(found, sentence):
    verdicts = {name: Verdict(tuple(findings)) for name, findings in found.items()}
    assert blame(FINDING, verdicts) == f"The ingredient: {sentence}"
