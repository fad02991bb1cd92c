"""Names that were made to harm whoever reads a report are shown, and harm nobody."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn

from pytest_ckptload.case import Case, CheckpointSpec, ModuleSpec, TensorSpec
from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.finding import CheckpointMismatch, Finding
from pytest_ckptload.printable import printable
from pytest_ckptload.recipes import eager, mmap_meta_assign
from pytest_ckptload.report.text import replay_command

NAMES = {
    "escape": "a\x1b[2Jb",
    "line breaks": "first\nsecond\r\u2028third",
    "null": "nul\x00l",
    "right to left": "a\u202eb",
    "no identifier": "with space-and/slash",
    "html": "<script>alert(1)</script>&amp;",
    "long": "x" * 10**5,
    "an attribute": "forward",
    "a dict": "_parameters",
    "quotes": '\'"""\\',
}
UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]")


@pytest.fixture(params=NAMES.values(), ids=NAMES)
def name(request):
    return request.param


def losing(build, path, device):
    """Loses everything there is."""
    module = eager(build, path, device)
    for tensor in module.state_dict().values():
        tensor.zero_()
    return module


def named(name):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self._parameters[name] = nn.Parameter(torch.ones(2))

    return Holder


def safe(text):
    assert not UNSAFE.search(text)
    assert all(len(word) < 1000 for line in text.split("\n") for word in line.split())
    return text


def test_a_finding_is_told_safely(name):
    with pytest.raises(CheckpointMismatch) as caught:
        Checker(Defaults(max_examples=0)).check(losing, build=named(name), features=[])
    error = caught.value
    told = error.report.partition("Replay it with")[0]
    assert "CKPT101" in safe(told) or "CKPT104" in told
    for finding in error.findings:
        safe(str(finding))
        assert finding.names == (name,)
        assert json.loads(json.dumps(finding.as_dict()))["place"] == finding.place
    compile(error.script, "script.py", "exec")
    assert not UNSAFE.search(error.script)


def test_a_key_too_many_is_told_safely(name):
    linear = ModuleSpec("Linear", {"in_features": 1, "out_features": 1})
    case = Case(linear, CheckpointSpec(extra={name: TensorSpec(shape=(2,))}), ("extra-key",))

    def lax(build, path, device):
        return eager(build, path, device, strict=False)

    checker = Checker(Defaults(replay=case, promises=("strict",)))
    with pytest.raises(CheckpointMismatch) as caught:
        checker.check(lax)
    assert "CKPT804" in safe(caught.value.report.partition("Replay it with")[0])
    assert Case.from_json(case.to_json()) == case
    assert len(replay_command(None, [], case)) < 25_000


def test_a_file_with_such_a_name_is_checked(name, tmp_path):
    file = tmp_path / "model.pt"
    torch.save({name: torch.arange(3.0), "weight": torch.ones(2, 2)}, file)
    checker = Checker(Defaults(max_examples=0))
    if name == "_parameters":
        with pytest.raises(ValueError, match="'_parameters' cannot be the name of a tensor"):
            checker.check(mmap_meta_assign, checkpoint=file)
    else:
        assert checker.check(mmap_meta_assign, checkpoint=file).examples == 1


@pytest.mark.parametrize(
    "option", ["--junitxml=report.xml", pytest.param("-n1", marks=pytest.mark.slow), "-v"]
)
def test_the_session_tells_it_safely(pytester, option):
    pytester.makepyfile(
        """
        import torch
        from torch import nn
        from pytest_ckptload.recipes import eager

        class Holder(nn.Module):
            def __init__(self):
                super().__init__()
                for name in ("a\\x1b[2Jb", "x" * 10**5, "first\\nsecond\\x00"):
                    self._parameters[name] = nn.Parameter(torch.ones(2))

        def losing(build, path, device):
            module = eager(build, path, device).eval()
            for tensor in module.state_dict().values():
                tensor.zero_()
            return module

        def test_losing(ckptload):
            ckptload.check(losing, build=Holder, features=[], max_examples=0)
        """
    )
    result = pytester.runpytest_inprocess(option, "-p", "no:benchmark")
    result.assert_outcomes(failed=1)
    assert not UNSAFE.search(result.stdout.str().replace("\x1b[0m", ""))
    if "xml" in option:
        import xml.etree.ElementTree as ElementTree

        assert ElementTree.parse(pytester.path / "report.xml").getroot().tag == "testsuites"


def test_what_is_printable():
    assert printable("plain, with spaces") == "plain, with spaces"
    assert printable("a\x1b[2J\nb") == "a\\x1b[2J\\nb"
    assert printable("x" * 201).endswith("x… (201 characters)")
    finding = Finding("CKPT101", "bits-differ", "a\nb", "evidence", "cause", "fix")
    assert str(finding) == "CKPT101 bits-differ at a\\nb: evidence"
