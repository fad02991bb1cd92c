"""Findings that others explain: which, in what order, and what becomes of them."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from pytest_ckptload.case import Case, CheckpointSpec, Edit, ModuleSpec, OptimizerSpec
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.examine.resuming import examine_resume
from pytest_ckptload.faults import FAULTS
from pytest_ckptload.finding import CheckpointMismatch, Finding, Verdict
from pytest_ckptload.recipes import eager, eager_resume, meta_assign, mmap_meta_assign_resume
from pytest_ckptload.report.text import findings_text
from pytest_ckptload.rules import RULES
from pytest_ckptload.rules.causes import CAUSES, folded
from pytest_ckptload.search import Budget, search


def found(code, *names, place=None, advice=False):
    rule = RULES[code].name if code in RULES else "of-a-project"
    place = place or (" = " if code == "CKPT401" else " ~ ").join(names)
    return Finding(code, rule, place, "evidence", f"cause of {code}", "fix", names, advice)


def outline(findings):
    """Codes in their order, each with that of the finding that explains it."""
    return [(f.code, f.because_of and f.because_of[0]) for f in folded(findings)]


# --- the table

# (cause, effect, where it is explained, where it is not)
EXAMPLES = [
    (found("CKPT806", "the load"), found("CKPT805", "the load"), None),
    (found("CKPT809", "the load"), found("CKPT805", "the load"), None),
    (found("CKPT804", "a.b", place="the load"), found("CKPT102", "a.b"), found("CKPT102", "c")),
    (found("CKPT804", "a.b", place="the load"), found("CKPT303", "a.b"), found("CKPT303", "c")),
    (found("CKPT804", "a.b", place="the load"), found("CKPT302", "a_b"), None),
    (found("CKPT204", "a"), found("CKPT101", "a"), found("CKPT101", "b")),
    (found("CKPT306", "a.b"), found("CKPT301", "a.b.weight"), found("CKPT301", "a.c")),
    (found("CKPT306", "the module"), found("CKPT302", "weight"), None),
    (found("CKPT301", "weight"), found("CKPT302", "w"), None),
    (found("CKPT304", "a"), found("CKPT206", "a"), found("CKPT206", "b")),
    (found("CKPT304", "a"), found("CKPT502", "a"), found("CKPT502", "b")),
    (found("CKPT207", "a"), found("CKPT208", "a"), found("CKPT208", "b")),
    (found("CKPT207", "a"), found("CKPT309", "a"), found("CKPT309", "b")),
    (found("CKPT201", "a"), found("CKPT401", "b", "a"), found("CKPT401", "b", "c")),
    (found("CKPT401", "a", "b"), found("CKPT102", "b"), found("CKPT102", "c")),
    (found("CKPT401", "a", "b"), found("CKPT501", "a", place="x"), found("CKPT501", "c")),
    (found("CKPT402", "a", "b"), found("CKPT101", "b"), found("CKPT101", "c")),
    (found("CKPT404", "a"), found("CKPT508", "the step"), found("CKPT508", "b")),
    (found("CKPT303", "a"), found("CKPT104", "a"), found("CKPT104", "b")),
    (found("CKPT303", "a"), found("CKPT508", "the step"), found("CKPT508", "b")),
    (found("CKPT206", "a"), found("CKPT502", "a"), found("CKPT502", "b")),
    (found("CKPT501", "a", place="x"), found("CKPT502", "a"), found("CKPT502", "b")),
    (found("CKPT504", "a", "b", place="x"), found("CKPT502", "b"), found("CKPT502", "c")),
    (found("CKPT504", "a", "b", place="x"), found("CKPT505", "b"), found("CKPT505", "c")),
    (found("CKPT305", "the module"), found("CKPT504", "a", place="x"), None),
    (found("CKPT507", "a"), found("CKPT508", "a"), found("CKPT508", "b")),
    (found("CKPT502", "a"), found("CKPT505", "b"), None),
    (found("CKPT401", "a", "b"), found("CKPT505", "c"), None),
    (found("CKPT309", "a.b"), found("CKPT901", "a"), found("CKPT901", "c")),
    (found("CKPT309", "a.b"), found("CKPT901", "the module"), found("CKPT901", "c")),
    (found("CKPT309", "a.b"), found("CKPT902", "c.weight"), None),
    (found("CKPT403", "a"), found("CKPT705", "b"), None),
]


@pytest.mark.parametrize(
    ("cause", "effect", "other"),
    EXAMPLES,
    ids=lambda f: f"{f.code}-{f.place}" if isinstance(f, Finding) else "",
)
def test_what_explains_what(cause, effect, other):
    assert outline([effect, cause]) == [(cause.code, None), (effect.code, cause.code)]
    if other is not None:
        expected = sorted([(cause.code, None), (other.code, None)])
        assert sorted(outline([other, cause]), key=str) == expected


def test_every_line_of_the_table_has_an_example():
    for line in CAUSES:
        assert line.why
        assert any(line.explains(cause.code, effect.code) for cause, effect, _ in EXAMPLES), line


def test_the_table_speaks_of_rules_that_there_are():
    codes = {code for line in CAUSES for code in (*line.codes, *line.effects)}
    assert all(any(known.startswith(code) for known in RULES) for code in codes)


def test_nothing_explains_itself_by_way_of_others():
    explained = {
        cause: {e for e in RULES if any(line.explains(cause, e) for line in CAUSES)}
        for cause in RULES
    }
    while explained:
        last = {cause for cause, effects in explained.items() if not effects & explained.keys()}
        assert last, f"each of these explains another of them: {sorted(explained)}"
        explained = {c: effects for c, effects in explained.items() if c not in last}


# --- folding


def test_a_finding_that_explains_another_comes_before_it_and_unrelated_ones_keep_their_order():
    findings = [
        found("CKPT101", "x"),
        found("CKPT102", "b"),
        found("CKPT207", "x"),
        found("CKPT401", "a", "b"),
        found("CKPT701", "the file"),
    ]
    assert outline(findings) == [
        ("CKPT101", None),
        ("CKPT207", None),
        ("CKPT401", None),
        ("CKPT701", None),
        ("CKPT102", "CKPT401"),
    ]


def test_a_chain_has_one_beginning():
    findings = [found("CKPT102", "b"), found("CKPT201", "a"), found("CKPT401", "a", "b")]
    assert outline(findings) == [
        ("CKPT201", None),
        ("CKPT102", "CKPT201"),
        ("CKPT401", "CKPT201"),
    ]
    assert {f.because_of for f in folded(findings)[1:]} == {("CKPT201", "a")}


def test_nothing_is_lost_and_order_does_not_matter():
    findings = [cause for cause, _, _ in EXAMPLES] + [effect for _, effect, _ in EXAMPLES]
    there = {(f.code, f.place) for f in findings}
    for some in (findings, findings[::-1]):
        assert {(f.code, f.place) for f in folded(some)} == there
        leading = {(f.code, f.place) for f in folded(some) if f.because_of is None}
        assert {f.because_of for f in folded(some)} - {None} <= leading
    assert len(folded(findings)) == len(findings)


def test_a_rule_of_a_project_stands_for_itself():
    assert outline([found("OURS1", "a"), found("CKPT401", "a", "b")]) == [
        ("OURS1", None),
        ("CKPT401", None),
    ]


def test_ten_thousand_findings_are_folded_in_no_time():
    many = [found(code, f"layer.{n}") for code in ("CKPT303", "CKPT101") for n in range(5000)]
    start = time.perf_counter()
    assert sum(f.because_of is not None for f in folded(many)) == 5000
    assert time.perf_counter() - start < 1


# --- what is said


def test_one_reason_is_one_paragraph():
    text = findings_text(
        folded(
            [
                *(found("CKPT102", f"t{n}") for n in range(5)),
                found("CKPT401", "w", *(f"t{n}" for n in range(5))),
                found("CKPT701", "the file"),
            ]
        )
    )
    first, second = text.split("\n\n")
    assert second.startswith("CKPT701 ")
    head, at, also, *_ = first.splitlines()
    assert head == "CKPT401 tie-lost"
    assert at.startswith("  at    w = t0 = t1")
    assert also == "  also  CKPT102 uninitialised at t0, t1, t2 and 2 more"
    assert "cause of CKPT102" not in text


# --- the search


CASE = Case(ModuleSpec("Linear", {"in_features": 1, "out_features": 1}))


def judging(*findings):
    return lambda case: Verdict(findings, judged=True)


CAUSE, EFFECT = found("CKPT401", "a", "b"), found("CKPT102", "b")


def test_the_search_gives_the_finding_that_explains_the_others_first():
    outcome = search(judging(EFFECT, CAUSE), [CASE], None, Budget())
    assert [f.code for f in outcome.failure.findings] == ["CKPT401", "CKPT102"]


@pytest.mark.parametrize("allowed", [set(), {"CKPT401"}, {"CKPT102"}])
def test_what_is_allowed_does_not_take_along_what_it_explains(allowed):
    outcome = search(
        judging(EFFECT, CAUSE),
        [CASE],
        None,
        Budget(),
        lambda finding, case: "a reason" if finding.code in allowed else None,
    )
    kept = [f.code for f in outcome.failure.findings]
    assert kept == [c for c in ("CKPT401", "CKPT102") if c not in allowed]
    assert outcome.failure.findings[0].because_of is None


def test_advice_explains_no_failure():
    advice = found("CKPT306", "a", advice=True)
    outcome = search(judging(advice, found("CKPT301", "a.b")), [CASE], None, Budget())
    assert [(f.code, f.because_of) for f in outcome.failure.findings] == [("CKPT301", None)]


def test_shrinking_does_not_slip_to_a_case_where_something_else_explains_the_finding():
    def examine(case):
        if case.seed < 20:
            return Verdict(judged=True)
        return Verdict((EFFECT, CAUSE) if case.seed < 50 else (EFFECT,), judged=True)

    random = st.integers(0, 100).map(lambda seed: Case(CASE.module, seed=seed))
    ends = set()
    for seed in range(8):
        outcome = search(examine, [], random, Budget(max_examples=50, seed=seed))
        ends.add((outcome.failure.findings[0].code, outcome.failure.case.seed))
    assert ends == {("CKPT401", 20), ("CKPT102", 50)}


# --- from end to end


def unties_into_empty_memory(build, path, device):
    """As ``to_empty`` does, for names that the file does not hold."""
    module = eager(build, path, device)
    module.kept = torch.full_like(module.kept, float("nan"))
    return module


class Follows(nn.Module):
    """A buffer that is not saved and that is the very tensor of a saved one."""

    def __init__(self):
        super().__init__()
        self.register_buffer("saved", torch.ones(3))
        self.register_buffer("kept", self.saved, persistent=False)


def test_a_lost_tie_explains_the_memory_that_was_not_filled_through_it():
    checker = Checker(Defaults(features=(), max_examples=0))
    with pytest.raises(CheckpointMismatch) as caught:
        checker.check(unties_into_empty_memory, build=Follows)
    first, second = caught.value.findings
    assert (first.code, first.because_of) == ("CKPT401", None)
    assert (second.code, second.because_of) == ("CKPT102", ("CKPT401", "saved = kept"))
    assert "  also  CKPT102 uninitialised at kept" in caught.value.report
    assert caught.value.report.count("  cause ") == 1
    assert caught.value.script.index("# CKPT401") < caught.value.script.index("# CKPT102")


class Gain(nn.Module):
    """A weight, and a number that is saved by code of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.gain = 2.0

    def get_extra_state(self):
        return {"gain": self.gain}

    def set_extra_state(self, state):
        self.gain = state["gain"]

    def forward(self, rows):
        return rows * self.weight * self.gain


class Doubled(Gain):
    def forward(self, rows):
        return super().forward(rows) * 2


class Detached(Gain):
    def forward(self, rows):
        return super().forward(rows.detach())


class Sparse(nn.Module):
    """Another class in the place of a ``Linear``, with the weight in another layout."""

    def __init__(self, linear):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().to_sparse())
        self.bias = linear.bias


class Special(nn.Parameter):
    pass


class Packed(nn.Module):
    """Another class in the place of a ``Linear``, with other names and kinds."""

    def __init__(self, linear):
        super().__init__()
        self.packed = Special(linear.weight.detach())
        self.bias = Special(linear.bias.detach())


class Whole(nn.Module):
    """Parts that call one another, with hooks."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.outer = nn.Sequential(Gain())
        self.outer.register_forward_hook(lambda module, given, output: output * 2)
        self.outer.register_full_backward_hook(lambda module, into, out: (into[0] / 2,))

    def forward(self, rows):
        return self.outer(self.inner(rows))


def becomes(made):
    def change(module):
        module.inner = made(module.inner)

    return change


def of_class(made):
    def change(module):
        module.outer[0].__class__ = made

    return change


def without(hooks):
    return lambda module: getattr(module.outer, hooks).clear()


def forgets_its_gain(module):
    module.outer[0].gain = 1.0


def expands(module):
    module.inner.weight.data = module.inner.weight.data[:1].expand(3, 3)


def ties(module):
    module.outer[0].weight = module.inner.bias


def loads_and(change):
    def load(build, path, device):
        module = eager(build, path, device)
        change(module)
        return module

    return load


def resumes_and(change):
    def resume(build, make_optimizer, path, device):
        module, optimizer = eager_resume(build, make_optimizer, path, device)
        change(module)
        return module, optimizer

    return resume


def reported(method, load, **arguments):
    """Each finding of a check: its code and place, and the code of what explains it."""
    checker = Checker(Defaults(features=(), max_examples=0))
    with pytest.raises(CheckpointMismatch) as caught:
        getattr(checker, method)(load, **arguments)
    return [(f.code, f.place, f.because_of and f.because_of[0]) for f in caught.value.findings]


@pytest.mark.parametrize(
    ("change", "cause", "effects"),
    [
        (becomes(Sparse), "CKPT306", {"CKPT204"}),
        (becomes(Packed), "CKPT306", {"CKPT207", "CKPT301", "CKPT302"}),
        (of_class(Doubled), "CKPT306", {"CKPT901"}),
        (of_class(Detached), "CKPT306", {"CKPT902"}),
        (forgets_its_gain, "CKPT308", {"CKPT901"}),
        (without("_forward_hooks"), "CKPT309", {"CKPT901"}),
        (without("_backward_hooks"), "CKPT309", {"CKPT902"}),
    ],
)
def test_what_a_loader_does_to_a_part_is_said_once(change, cause, effects):
    load = loads_and(change)
    first, *rest = reported("check", load, build=Whole, inputs=lambda: torch.ones(2, 3))
    assert (first[0], first[2]) == (cause, None)
    assert {code for code, _, _ in rest} == effects
    assert {because for _, _, because in rest} == {cause}


def test_a_tensor_that_overlaps_itself_explains_a_step_that_raises():
    found = reported("check_resume", resumes_and(expands), build=Whole)
    assert ("CKPT508", "the step", "CKPT404") in found


def test_a_parameter_on_meta_explains_a_step_over_all_that_raises():
    case = Case(ModuleSpec("LoadsByCopy", {"size": 2}), optimizer=OptimizerSpec("LBFGS"))
    verdict = examine_resume(case, mmap_meta_assign_resume, None, torch.device("cpu"))
    assert outline(verdict.findings) == [("CKPT303", None), ("CKPT508", "CKPT303")]


def test_a_tie_that_was_gained_explains_what_is_wrong_at_its_names():
    found = reported("check_resume", resumes_and(ties), build=Whole)
    assert found[0][0] == "CKPT402"
    assert {(code, because) for code, _, because in found[1:]} == {
        ("CKPT101", "CKPT402"),
        ("CKPT501", "CKPT402"),
    }


def test_what_a_loader_keeps_explains_that_it_is_stale():
    fault = FAULTS["shares_between_loads"]
    found = reported("check", fault.broken, **fault.given)
    assert {(code, because) for code, _, because in found} == {
        ("CKPT403", None),
        ("CKPT705", "CKPT403"),
    }


def test_the_key_that_a_file_lacks_is_said_once():
    def zeros(build, path, device):
        module = build()
        module.to_empty(device=device)
        module.load_state_dict(torch.load(path, weights_only=True), strict=False)
        return module

    case = Case(CASE.module, CheckpointSpec(missing=("bias",)), features=("missing-key",))
    checker = Checker(Defaults(promises=("strict",), max_examples=0, replay=case))
    with pytest.raises(CheckpointMismatch) as caught:
        checker.check(zeros)
    assert [(f.code, f.because_of and f.because_of[0]) for f in caught.value.findings] == [
        ("CKPT804", None),
        ("CKPT102", "CKPT804"),
    ]


def test_a_hook_of_a_tied_parameter_is_missed_by_each_name_once():
    """Whose gradients differ for the same reason, where the file unties them."""
    tied = Edit("tie", {"source": "0.weight", "target": "1.weight"})
    module = ModuleSpec(
        "Sequential",
        children={
            "0": ModuleSpec("Embedding", {"num_embeddings": 2, "embedding_dim": 2}),
            "1": ModuleSpec("Linear", {"in_features": 2, "out_features": 2, "bias": False}),
        },
        edits=(tied, Edit("hook", {"name": "0.weight"})),
    )
    case = Case(module, CheckpointSpec(ties="differ"), features=("tied", "parameter-hooks"))
    found = examine(case, meta_assign, torch.device("cpu"), Demands()).findings
    assert [f.code for f in found if not f.advice] == ["CKPT309"]
