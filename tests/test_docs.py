"""The examples in README and docs are run, and the reference pages name what there is.

Every fenced block of Python says on the line above it what becomes of it:

``<!-- runs -->``
    a test file, or code that is simply executed: all its tests pass
``<!-- fails: CKPT303 -->``
    a test file whose every test fails, with this code in the failure
``<!-- runs in test_loading.py -->`` and ``<!-- fails: CKPT303 in test_loading.py -->``
    the same, for pages that tell the reader what to call the file
``<!-- file: loading.py -->``
    written under this name beside every example that follows on the page, which may import it
``<!-- not run: why -->``
    shown, and nothing else

``<!-- again: passes -->`` and ``<!-- again: fails: CKPT402 -->`` stand alone: the last example once
more, with the files as they are by then.

A block of any other language may be marked ``<!-- output -->``: its lines stand, in this order, in
what pytest printed for the page's examples so far, with or without the ``E`` and the name of the
error that pytest puts before them. ``…`` stands for anything, and lines may be left out.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|:{3,}) *(?P<info>[^`]*)$")
MARKER = re.compile(
    r"^ *<!-- *(?P<kind>runs|fails|file|not run|output|again)\b *:? *(?P<rest>.*?) *-->$"
)
GENERATED = "generated rule pages"


@dataclass(frozen=True)
class Block:
    """A marked block, and the files that stand beside it when it runs."""

    line: int
    kind: str
    rest: str
    text: str
    files: tuple[tuple[str, str], ...] = ()
    name: str = ""

    @property
    def module(self) -> str:
        return self.name.removesuffix(".py") or f"test_line_{self.line}"


@dataclass
class Page:
    """A page's blocks in their order, and what is wrong with its markers."""

    blocks: list[Block] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def parse(text: str) -> Page:
    page = Page()
    lines = text.splitlines()
    files: dict[str, str] = {}
    marker: tuple[int, re.Match[str]] | None = None
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if found := MARKER.match(line):
            if marker is not None:
                page.complaints.append(f"line {marker[0]}: no block follows this marker")
            marker = (number, found)
            if found["kind"] == "again":
                marker = None
                again(page, number, found["rest"], files)
            continue
        opening = FENCE.match(line)
        if opening is None or not opening["fence"].startswith("`"):
            if marker is not None and line.strip():
                page.complaints.append(f"line {marker[0]}: no block follows this marker")
                marker = None
            continue
        start, body = number, []
        while number < len(lines) and not _closes(lines[number], opening["fence"]):
            body.append(lines[number].removeprefix(opening["indent"]))
            number += 1
        number += 1
        words = opening["info"].split()
        python = words[:1] in (["python"], ["py"]) or words[:2] == ["{code-block}", "python"]
        kind, rest, name = (
            (marker[1]["kind"], *split(marker[1]["rest"])) if marker else ("", "", "")
        )
        marker = None
        if complaint := _complaint(python, kind, rest):
            page.complaints.append(f"line {start}: {complaint}")
        elif kind == "file":
            files[rest] = "\n".join(body) + "\n"
        elif kind in ("runs", "fails", "output"):
            text = "\n".join(body) + "\n"
            page.blocks.append(Block(start, kind, rest, text, (*files.items(),), name))
    if marker is not None:
        page.complaints.append(f"line {marker[0]}: no block follows this marker")
    return page


def again(page: Page, line: int, rest: str, files: dict[str, str]) -> None:
    """The last example once more, with the files as they are by now."""
    last = next((b for b in reversed(page.blocks) if b.kind in ("runs", "fails")), None)
    wanted = re.fullmatch(r"passes|fails: (CKPT\d{3})", rest)
    if last is None or wanted is None:
        page.complaints.append(f"line {line}: what again? {rest!r}")
        return
    kind = "fails" if wanted[1] else "runs"
    page.blocks.append(Block(line, kind, wanted[1] or "", last.text, (*files.items(),), last.name))


def split(rest: str) -> tuple[str, str]:
    """``CKPT303 in test_loading.py`` as its two halves, either of which may be missing."""
    found = re.fullmatch(r"(.*?) *\bin (test_\w+\.py)", rest)
    return (found[1], found[2]) if found else (rest, "")


def _closes(line: str, fence: str) -> bool:
    stripped = line.strip()
    return stripped.startswith(fence) and not stripped.strip("`")


def _complaint(python: bool, kind: str, rest: str) -> str | None:
    if python and kind in ("", "output"):
        return "a block of Python does not say whether it runs"
    if not python and kind in ("runs", "fails", "file", "not run"):
        return f"marked {kind!r}, but no block of Python"
    if kind == "runs" and rest:
        return f"runs how? {rest!r} is not understood"
    if kind == "fails" and not re.fullmatch(r"CKPT\d{3}", rest):
        return f"fails with what? {rest!r} is no code"
    if kind == "file" and not re.fullmatch(r"[a-z]\w*\.py", rest):
        return f"{rest!r} is no name for a Python file"
    if kind == "not run" and not rest:
        return "not run, and no reason given"
    return None


def pages() -> dict[str, str]:
    """The text of every page, by its path; the generated pages as one."""
    names = ["README.md", *(str(p.relative_to(ROOT)) for p in sorted(DOCS.rglob("*.md")))]
    unwritten = ("docs/_", "docs/changes/", "docs/reference/rules/")
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in names
        if not name.startswith(unwritten)
    }
    return texts | {GENERATED: rule_pages()}


def rule_pages() -> str:
    path = DOCS / "_ext" / "rule_pages.py"
    spec = importlib.util.spec_from_file_location("rule_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from pytest_ckptload.rules import RULES

    return "\n".join(module.rule_page(RULES[code]) for code in sorted(RULES))


PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_python_says_whether_it_runs(name: str) -> None:
    assert parse(PAGES[name]).complaints == []


@pytest.mark.parametrize("name", [name for name in PAGES if parse(PAGES[name]).blocks])
def test_examples_do_what_they_say(name: str, tmp_path: Path) -> None:
    check(parse(PAGES[name]), tmp_path)


def check(page: Page, tmp_path: Path) -> None:
    """Run a page's examples; those with the same files beside them in one run of pytest."""
    printed = ""
    waiting: list[Block] = []
    for block in page.blocks:
        alike = all(b.files == block.files and b.module != block.module for b in waiting)
        if block.kind == "output" or not alike:
            printed += run(waiting, tmp_path)
            waiting = []
        if block.kind == "output":
            expect_output(block, printed)
        else:
            waiting.append(block)
    run(waiting, tmp_path)


def run(blocks: list[Block], tmp_path: Path) -> str:
    """What pytest printed for these blocks, once each of them did what it says."""
    if not blocks:
        return ""
    folder = tmp_path / f"line_{blocks[0].line}"
    folder.mkdir()
    for filename, text in blocks[0].files:
        (folder / filename).write_text(text, encoding="utf-8")
    for block in blocks:
        bare = not re.search(r"^\s*(?:def test_|class Test)", block.text, flags=re.MULTILINE)
        text = block.text + ("\n\ndef test_it_ran():\n    pass\n" if bare else "")
        (folder / f"{block.module}.py").write_text(text, encoding="utf-8")
    printed = in_fresh_process(
        *("-p", "no:cacheprovider", "--rootdir=.", "--junitxml=junit.xml"),
        # What an example shows it shows in the fixed cases: of random ones, a few are enough.
        *(f"--basetemp={folder}_tmp", "--ckptload-max-examples=10"),
        cwd=folder,
    )
    assert (folder / "junit.xml").is_file(), f"pytest wrote no report. It printed:\n{printed}"
    outcomes = read_junit(folder / "junit.xml")
    for block in blocks:
        expect_outcome(block, outcomes.get(block.module, []))
    return printed


def in_fresh_process(*arguments: str, cwd: Path) -> str:
    """What pytest prints, as on anybody's machine with the plugin installed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    # The gate's way of running: an example shrinks to the same case every time.
    environment |= {"CI": "true", "COLUMNS": "80"}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "ckptload", *arguments],
        capture_output=True,
        check=False,
        cwd=cwd,
        encoding="utf-8",
        env=environment,
    )
    return result.stdout + result.stderr


def read_junit(path: Path) -> dict[str, list[tuple[str, str]]]:
    """For each module its tests, as pairs of an outcome and the text that explains it."""
    outcomes: dict[str, list[tuple[str, str]]] = {}
    for case in ET.parse(path).iter("testcase"):
        # A module that cannot be collected stands there as a test without a class.
        module = (case.get("classname") or case.get("name") or "").split(".")[0]
        told = [
            (child.tag, f"{child.get('message')}\n{child.text}")
            for child in case
            if child.tag in ("failure", "error", "skipped")
        ]
        outcomes.setdefault(module, []).extend(told or [("passed", "")])
    return outcomes


def expect_outcome(block: Block, outcomes: list[tuple[str, str]]) -> None:
    assert outcomes, f"line {block.line}: pytest found no test in this example"
    for outcome, told in outcomes:
        if block.kind == "runs":
            assert outcome == "passed", f"line {block.line}: is to pass, and did not:\n{told}"
        else:
            assert outcome == "failure", f"line {block.line}: is to fail, but {outcome}\n{told}"
            assert block.rest in told, f"line {block.line}: no {block.rest} in its failure:\n{told}"


def expect_output(block: Block, printed: str) -> None:
    rest = iter(map(_bare, printed.splitlines()))
    for line in map(_bare, block.text.splitlines()):
        if not line.strip("…"):
            continue
        wanted = re.compile(".*".join(map(re.escape, line.split("…"))))
        assert any(map(wanted.fullmatch, rest)), (
            f"line {block.line}: pytest did not print {line!r} here. It printed:\n{printed}"
        )


def _bare(line: str) -> str:
    """A line without the margin that pytest gives to errors, and the name of the error."""
    return re.sub(r"^E\s+(?:[\w.]+: )?", "", line.strip())


# --- the reference pages name what there is ---


def headings(page: str) -> set[str]:
    """The code that the third-level headings of a page begin with."""
    return set(re.findall(r"^### `(--[\w-]+|\w+)", PAGES[f"docs/{page}"], flags=re.MULTILINE))


def test_every_option_is_documented(tmp_path: Path) -> None:
    printed = in_fresh_process("--help", cwd=tmp_path)
    options = set(re.findall(r"^ +(--ckptload[\w-]*)", printed, flags=re.MULTILINE))
    keys = set(re.findall(r"^ +(ckptload_\w+) \(", printed, flags=re.MULTILINE))
    assert headings("reference/options.md") == options
    # As the page says: each option has a key of the same name, but for these.
    named_alike = {option.removeprefix("--").replace("-", "_") for option in options}
    assert keys == named_alike - {"ckptload", "ckptload_rules", "ckptload_rule"}


def test_every_fixture_is_documented(tmp_path: Path) -> None:
    printed = in_fresh_process("--fixtures", cwd=tmp_path)
    fixtures = set(re.findall(r"^(ckptload\w*)\b", printed, flags=re.MULTILINE))
    assert headings("reference/fixtures.md") == fixtures


def test_every_module_has_its_place_in_the_architecture() -> None:
    tree = re.search(r"^pytest_ckptload/\n(.*?)^tests/", PAGES["docs/architecture.md"], re.M | re.S)
    assert tree is not None
    told = set(re.findall(r"^  ([\w.]+)", tree[1], flags=re.MULTILINE))
    package = ROOT / "pytest_ckptload"
    here = {p.name for p in package.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert told == here


# --- the helpers above accept what is good and refuse what is bad ---

GOOD = """
<!-- file: helper.py -->
```python
answer = 42
```

<!-- runs -->

```python
from helper import answer

def test_answer():
    assert answer == 42
```

1. A list.

   <!-- fails: CKPT999 in test_named.py -->
   ```python
   def test_failure():
       print("seen")
       assert not "CKPT999 made-up at 12 places"
   ```

<!-- output -->
```text
test_named.py F …
assert not 'CKPT999 …
seen
```

<!-- not run: it is about something else -->
```python
1 / 0
```

<!-- file: helper.py -->
```python
answer = 43
```

<!-- runs -->
```python
import helper

def test_answer():
    assert helper.answer == 43
```

<!-- file: helper.py -->
```python
answer = "CKPT999"
```

<!-- again: fails: CKPT999 -->
"""


def test_a_good_page_passes(tmp_path: Path) -> None:
    page = parse(GOOD)
    assert page.complaints == []
    assert [block.kind for block in page.blocks] == ["runs", "fails", "output", "runs", "fails"]
    check(page, tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\n1\n```", "does not say whether it runs"),
        ("<!-- runs -->\ntext\n```python\n1\n```", "no block follows"),
        ("<!-- runs -->", "no block follows"),
        ("<!-- runs -->\n```text\n1\n```", "no block of Python"),
        ("<!-- output -->\n```python\n1\n```", "does not say whether it runs"),
        ("<!-- runs: fast -->\n```python\n1\n```", "is not understood"),
        ("<!-- fails: tie-lost -->\n```python\n1\n```", "is no code"),
        ("<!-- fails -->\n```python\n1\n```", "is no code"),
        ("<!-- file: ../x.py -->\n```python\n1\n```", "no name for a Python file"),
        ("<!-- again: passes -->", "what again"),
        ("<!-- runs -->\n```python\n1\n```\n<!-- again: fails -->", "what again"),
        ("<!-- not run -->\n```python\n1\n```", "no reason"),
    ],
)
def test_a_bad_marker_is_noticed(text: str, complaint: str) -> None:
    assert any(complaint in told for told in parse(text).complaints)


@pytest.mark.parametrize(
    ("kind", "rest", "code", "message"),
    [
        ("runs", "", "def test_it():\n    assert not 1", "is to pass"),
        ("runs", "", "raise RuntimeError", "is to pass"),
        ("fails", "CKPT303", "def test_it():\n    pass", "is to fail, but passed"),
        (
            "fails",
            "CKPT303",
            "def test_it():\n    assert not 'CKPT401'",
            "no CKPT303 in its failure",
        ),
        ("fails", "CKPT303", "raise RuntimeError('CKPT303')", "is to fail, but error"),
        ("output", "", "this was never printed", "did not print 'this was never printed'"),
    ],
)
def test_an_example_that_does_otherwise_is_noticed(
    kind: str, rest: str, code: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=message):
        check(Page([Block(1, kind, rest, code)]), tmp_path)
