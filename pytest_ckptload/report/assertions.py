"""What a script asserts: for each rule, lines of Python that hold where the rule does.

Apart from the script because it follows the rules, and grows with them. The lines speak of
``loaded``, what the loader gave, ``expected``, the same loaded eagerly, ``state``, what the file
holds, and ``path``. Rules that no short line can check stand in ``WITHOUT``, with the reason; for
them, and for rules that a plugin brings along, the script ends in an error that says where to look.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable

import torch

from pytest_ckptload.finding import Finding
from pytest_ckptload.observe.hooks import HOOKS
from pytest_ckptload.printable import printable
from pytest_ckptload.report.quoting import literal
from pytest_ckptload.report.scene import Scene

__all__ = ["ASSERTIONS", "WITHOUT", "assertion_lines"]

_WIDTH = 96


Lines = Callable[[Finding, Scene], list[str]]

ASSERTIONS: dict[str, Lines] = {}
"""For each code, what makes the lines of an assertion from a finding."""

WITHOUT = {
    "CKPT403": "load twice, change the one module in place, and look at the other",
    "CKPT704": "list the folder of the checkpoint, and what the process has open, after the load",
    "CKPT705": "save another checkpoint under the same name, and load again",
    "CKPT706": "put another file beside the checkpoint, and look at it after the load",
    "CKPT707": "load twice, and compare both modules with that of the eager load",
    "CKPT809": "look for files called ckptload-climbed-out above the folder that was unpacked to",
    "CKPT602": "ask `torch.accelerator.memory` before and after both loads",
    "CKPT905": "load under `with torch.device(…)` for meta, the CPU and the device, and compare",
    "CKPT702": "move the file away, put another in its place, and read the tensors again",
    "CKPT703": "write over the file or truncate it, and read the tensors again",
    "CKPT901": "call the layer that it names in both modules with the same input",
    "CKPT902": "run both layers forward and backward, and compare `.grad`",
    "CKPT903": "compare `torch.get_rng_state()` after both loads, each under the same seed",
    "CKPT904": "compare the setting that it names before and after the load",
    "CKPT501": "a loader has no optimizer: this is found on resumers",
    "CKPT504": "a loader has no optimizer: this is found on resumers",
    "CKPT505": "a loader restores no optimizer state: this is found on resumers",
    "CKPT506": "a loader restores no optimizer state: this is found on resumers",
    "CKPT507": "a loader restores no optimizer state: this is found on resumers",
    "CKPT509": "a loader has no optimizer: this is found on resumers",
    "CKPT510": "a loader restores no optimizer state: this is found on resumers",
    "CKPT511": "a loader restores no optimizer state: this is found on resumers",
}
"""Codes without an assertion, each with the reason."""


def assertion_lines(findings: Iterable[Finding], scene: Scene) -> list[str]:
    """One assertion for each code, in the order of the findings, under a comment that says what was
    found.
    """
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    lines = []
    # What asserts that a line is not reached comes last.
    for code in sorted(by_code, key=lambda code: code in _REFUSALS):
        first, *rest = by_code[code]
        more = f" (and {len(rest)} more)" if rest else ""
        lines += ["", *_comment(f"{code} {first.rule} at {first.place}: {first.evidence}{more}")]
        lines += ASSERTIONS.get(code, _nothing_to_assert)(first, scene)
    return lines


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        printable(text),
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="#   ",
        break_on_hyphens=False,
    )


def _nothing_to_assert(finding: Finding, scene: Scene) -> list[str]:
    reason = WITHOUT.get(finding.code, "no short line can check it: compare loaded and expected")
    return [f"raise AssertionError({literal(f'{finding.code} {finding.rule}: {reason}')})"]


def _short(template: str, **expressions: str) -> list[str]:
    """The template filled in; where a line would be too long its expressions get names first."""
    lines = template.format(**expressions).split("\n")
    if max(map(len, lines)) <= _WIDTH:
        return lines
    named = [f"{name} = {expression}" for name, expression in expressions.items()]
    return [*named, *template.format(**{name: name for name in expressions}).split("\n")]


def _same_as_expected(what: str) -> Lines:
    """Assert that a property of the tensor is that of the eager module's."""

    def lines(finding: Finding, scene: Scene) -> list[str]:
        name = finding.names[0]
        return _short(
            f"assert {what.format('{left}')} == {what.format('{right}')}",
            left=scene.at(name),
            right=scene.at(name, "expected"),
        )

    return lines


def _of_file_or_module(what: str) -> Lines:
    """Assert that a property is the file's or the module's, or the one that was asked for."""

    def lines(finding: Finding, scene: Scene) -> list[str]:
        name = finding.names[0]
        left, right = scene.at(name), scene.at(name, "expected")
        saved = f"state[{literal(name)}]"
        if not scene.in_file(name) or scene.dtype is not None:
            return _same_as_expected(f"{{}}.{what}")(finding, scene)
        if "follows the module" in finding.evidence:
            return _short(f"assert {{left}}.{what} == {{saved}}.{what}", left=left, saved=saved)
        if "follows the file" in finding.evidence:
            return _short(f"assert {{left}}.{what} == {{right}}.{what}", left=left, right=right)
        return _short(
            f"assert {{left}}.{what} in ({{saved}}.{what}, {{right}}.{what})",
            left=left,
            saved=saved,
            right=right,
        )

    return lines


def _values(finding: Finding, scene: Scene) -> list[str]:
    name = finding.names[0]
    left, right = scene.at(name), scene.at(name, "expected")
    saved = f"state[{literal(name)}]"
    if scene.in_file(name) and (twins := scene.twins(name)):
        tied = " and ".join(f"{left} is {scene.at(twin)}" for twin in twins)
        others = ", ".join(f"state[{literal(twin)}]" for twin in twins)
        return _short(
            "wanted = [{saved}, {others}] if {tied} else [{saved}]\n"
            "wanted = [value.to({left}.dtype) for value in wanted]\n"
            "assert any(torch.equal(bits({left}), bits(value)) for value in wanted)",
            left=left,
            saved=saved,
            others=others,
            tied=tied,
        )
    if scene.in_file(name) and scene.converted(name):
        return _short(
            "wanted = [value.to({left}.dtype) for value in ({saved}, {right})]\n"
            "assert any(torch.equal(bits({left}), bits(value)) for value in wanted)",
            left=left,
            right=right,
            saved=saved,
        )
    wanted = saved if scene.in_file(name) else right
    return _short("assert torch.equal(bits({left}), bits({right}))", left=left, right=wanted)


def _uninitialised(finding: Finding, scene: Scene) -> list[str]:
    name = finding.names[0]
    if "missing from the file" not in finding.evidence:
        return _values(finding, scene)
    dtype = scene.slots[name].dtype if name in scene.slots else torch.float32
    if dtype.is_floating_point or dtype.is_complex:
        wide = ".float()" if dtype.itemsize == 1 else ""
        return _short(f"assert not {{left}}{wide}.isnan().all()", left=scene.at(name))
    return _short("assert not ({left} == torch.iinfo({left}.dtype).max).all()", left=scene.at(name))


_HELD = (
    "held = dict(loaded.named_parameters(remove_duplicate=False))",
    "held |= dict(loaded.named_buffers(remove_duplicate=False))",
)


def _name_missing(finding: Finding, scene: Scene) -> list[str]:
    name = finding.names[0]
    if finding.place == "the module":  # which is another, and has none of the names
        name = next(iter(scene.fresh.places if scene.fresh else ()), name)
    if finding.evidence.endswith("that can be read"):
        return [f"{scene.at(name)}.to_dense().tolist()  # raises where there is nothing to read"]
    if scene.kind(name) != "attribute":
        return [*_HELD, f"assert {literal(name)} in held"]
    path, bracket, key = name.partition("[")
    owner, _, attribute = path.rpartition(".")
    if not bracket:
        return [f"assert hasattr({scene.at(owner)}, {literal(attribute)})"]
    key = key.removesuffix("]")
    here = f"range(len({scene.at(path)}))" if key.isdigit() else scene.at(path)
    return [f"assert {key} in {here}"]


def _name_extra(finding: Finding, scene: Scene) -> list[str]:
    return [*_HELD, f"assert {literal(finding.names[0])} not in held"]


def _left_on_meta(finding: Finding, scene: Scene) -> list[str]:
    return [f"assert not {scene.at(finding.names[0])}.is_meta"]


def _kind(finding: Finding, scene: Scene) -> list[str]:
    name = finding.names[0]
    kind, quoted = scene.kind(name), literal(name)
    if kind == "parameter":
        return [f"assert isinstance({scene.at(name)}, nn.Parameter)"]
    if kind == "attribute":
        return [*_HELD, f"assert {quoted} not in held"]
    saved = "not in" if kind == "non-persistent buffer" else "in"
    return [
        f"assert {quoted} in dict(loaded.named_buffers(remove_duplicate=False))",
        f"assert {quoted} {saved} loaded.state_dict()",
    ]


def _attributes(finding: Finding, scene: Scene) -> list[str]:
    name = finding.names[0]
    return _short(
        "for key, value in vars({right}).items():\n"
        "    assert key in vars({left}) and repr(vars({left})[key]) == repr(value)",
        left=scene.at(name),
        right=scene.at(name, "expected"),
    )


def _bit(finding: Finding, scene: Scene) -> list[str]:
    left = scene.at(finding.names[0])
    return [f"assert not {left}.{'is_conj' if 'conjugate' in finding.evidence else 'is_neg'}()"]


def _order(finding: Finding, scene: Scene) -> list[str]:
    what = "parameters" if "the parameters are" in finding.evidence else "buffers"
    return [
        f"order = [name for name, _ in loaded.named_{what}()]",
        f"assert order == [name for name, _ in expected.named_{what}()]",
    ]


def _extra_state(finding: Finding, scene: Scene) -> list[str]:
    owner = finding.names[0].removesuffix("_extra_state").removesuffix(".")
    return _short(
        "assert repr({left}.get_extra_state()) == repr({right}.get_extra_state())",
        left=scene.at(owner),
        right=scene.at(owner, "expected"),
    )


def _hooks(finding: Finding, scene: Scene) -> list[str]:
    attribute = next(a for a, kind in HOOKS if finding.evidence.startswith(f"its {kind} "))
    path = "" if finding.place == "the module" else finding.names[0]
    return _short(
        f"assert len({{left}}.{attribute} or ()) == len({{right}}.{attribute})",
        left=scene.at(path),
        right=scene.at(path, "expected"),
    )


def _itself(finding: Finding, scene: Scene) -> list[str]:
    return _short(
        "assert torch._debug_has_internal_overlap({left}) != 1", left=scene.at(finding.names[0])
    )


def _type(finding: Finding, scene: Scene) -> list[str]:
    path = "" if finding.place == "the module" else finding.place
    return _short(
        "assert type({left}).__qualname__ == type({right}).__qualname__",
        left=scene.at(path),
        right=scene.at(path, "expected"),
    )


def _mode(finding: Finding, scene: Scene) -> list[str]:
    path = "" if finding.place == "the module" else finding.place
    left, right = scene.at(path), scene.at(path, "expected")
    return _short("assert {left}.training == {right}.training", left=left, right=right)


def _tied(finding: Finding, scene: Scene) -> list[str]:
    if " ~ " in finding.place:
        return _overlap(finding, scene, "shared")
    return [f"assert {' is '.join(map(scene.at, finding.names))}"]


def _independent(finding: Finding, scene: Scene) -> list[str]:
    if " ~ " in finding.place:
        return _overlap(finding, scene, "not shared")
    return [f"assert {' is not '.join(map(scene.at, finding.names[:2]))}"]


def _overlap(finding: Finding, scene: Scene, claim: str) -> list[str]:
    first, second = map(scene.at, finding.names[:2])
    return _short(
        "kept, before = {first}.detach().clone(), bits({second})\n"
        "with torch.no_grad():\n"
        "    {first}.zero_()\n"
        "    shared = not torch.equal(bits({second}), before)\n"
        "    {first}.copy_(kept)\n"
        f"assert {claim}",
        first=first,
        second=second,
    )


_STEP = (
    "for parameter in loaded.parameters():",
    "    if parameter.requires_grad and parameter.dtype.itemsize > 1:",
    "        parameter.grad = torch.ones_like(parameter)",
    "torch.optim.SGD(loaded.parameters(), lr=0.5, foreach=False).step()",
)


def _missed(finding: Finding, scene: Scene) -> list[str]:
    left = scene.at(finding.names[0])
    return _short("assert any(parameter is {left} for parameter in loaded.parameters())", left=left)


def _twice(finding: Finding, scene: Scene) -> list[str]:
    return [
        "parameters = list(loaded.parameters())",
        "assert len(parameters) == len(set(map(id, parameters)))",
    ]


def _step(finding: Finding, scene: Scene) -> list[str]:
    if finding.place == "the step":
        return [*_STEP[:3], f"{_STEP[3]}  # this raises"]
    left = scene.at(finding.names[0])
    wanted = _short("wanted = {left}.detach() - 0.5", left=left)
    return [*wanted, *_STEP, *_short("assert torch.equal(bits({left}), bits(wanted))", left=left)]


def _file(finding: Finding, scene: Scene) -> list[str]:
    step = _STEP if "stepped" in finding.evidence else ()
    return [*step, "assert path.read_bytes() == written"]


def _refusal(finding: Finding, scene: Scene) -> list[str]:
    return [f"raise AssertionError({literal(printable(finding.evidence))})"]


def _load_failed(finding: Finding, scene: Scene) -> list[str]:
    return []


def _executed(finding: Finding, scene: Scene) -> list[str]:
    if "import" in finding.evidence.partition(":")[0]:
        return ['assert "__hello__" not in __import__("sys").modules']
    return ["assert not mark.exists()"]


def _process(finding: Finding, scene: Scene) -> list[str]:
    return ["# The load that is to end the process so stands above."]


def _no_module(finding: Finding, scene: Scene) -> list[str]:
    return ["assert isinstance(loaded, nn.Module)"]


_REFUSALS = ("CKPT804", "CKPT805")

ASSERTIONS.update(dict.fromkeys(("CKPT101", "CKPT103", "CKPT104"), _values))
ASSERTIONS.update(dict.fromkeys(_REFUSALS, _refusal))
ASSERTIONS.update(
    CKPT102=_uninitialised,
    CKPT201=_of_file_or_module("dtype"),
    CKPT202=_same_as_expected("{}.shape"),
    CKPT203=_of_file_or_module("stride()"),
    CKPT204=_same_as_expected("{}.layout"),
    CKPT205=_same_as_expected("{}.device"),
    CKPT206=_same_as_expected("{}.requires_grad"),
    CKPT207=_same_as_expected("type({})"),
    CKPT208=_attributes,
    CKPT209=_bit,
    CKPT210=_same_as_expected("{}.is_inference()"),
    CKPT301=_name_missing,
    CKPT302=_name_extra,
    CKPT303=_left_on_meta,
    CKPT304=_kind,
    CKPT305=_order,
    CKPT306=_type,
    CKPT307=_mode,
    CKPT308=_extra_state,
    CKPT309=_hooks,
    CKPT401=_tied,
    CKPT402=_independent,
    CKPT404=_itself,
    CKPT502=_missed,
    CKPT503=_twice,
    CKPT508=_step,
    CKPT701=_file,
    CKPT801=_process,
    CKPT802=_process,
    CKPT803=_load_failed,
    CKPT806=_executed,
    CKPT807=_no_module,
    CKPT808=_process,
)
