"""Damaged files by the hundred thousand, through the plugin's own reading and torch's recipes.

    python tests/fuzz/fuzz_files.py --files 100000 --seed 0

Each file is an ordinary checkpoint with one or more kinds of damage put on top of each other, and a
few bytes changed at random. It is examined as a check does with the promise *robust*, once for each
recipe. What must hold is checked here by other means than the rules': the session survives, no code
runs (an audit hook sees what Python does), no file is touched outside of the temporary folder, and
an accepted file whose bytes are not those of the eager load, or one that eager loading refuses, has
a finding. Ends with 1 where one of it does not hold.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

from pytest_ckptload import case as data
from pytest_ckptload import damage as damages
from pytest_ckptload.case import ModuleSpec
from pytest_ckptload.examine.given import state_in, verified
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.finding import Verdict
from pytest_ckptload.recipes import RECIPES, mmap_stream
from pytest_ckptload.worker import Limits, isolated

CPU = torch.device("cpu")
RANDOM = "fuzz"
MODULES = (
    ModuleSpec("Linear", {"in_features": 3, "out_features": 2}),
    ModuleSpec("BatchNorm1d", {"num_features": 2}),
    ModuleSpec("TwoNames", {"size": 2}),
    ModuleSpec("Linear", {"in_features": 40, "out_features": 60}),
)
FORBIDDEN = ("os.system", "subprocess.Popen", "socket.connect", "os.exec", "os.posix_spawn")
QUICK = [
    n for n, kind in damages.DAMAGES.items() if kind.alter and not kind.slow and n != "zip-bomb"
]


def mutated(data: bytes, where: float) -> bytes:
    """Some kinds of damage on top of each other, and a few random bytes, all drawn from a seed."""
    draw = random.Random(where)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        kind = damages.DAMAGES[draw.choice(QUICK)]
        try:
            data = kind.alter(data, draw.random())
        except Exception:  # not an archive any more: kinds are for files that torch wrote
            break
    changed = bytearray(data)
    for _ in range(draw.choice((0, 0, 1, 1, 2, 8)) if changed else 0):
        place = draw.randrange(len(changed))
        way = draw.randrange(4)
        if way == 0:
            changed[place] ^= 1 << draw.randrange(8)
        elif way == 1:
            changed[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif way == 2:
            del changed[place : place + draw.choice((1, 2, 4, 64))]
        else:
            changed[place:place] = draw.randbytes(draw.choice((1, 4, 64)))
        if not changed:
            break
    return bytes(changed)


class Watch:
    """Sees what the process does while files are examined."""

    def __init__(self, allowed: Path) -> None:
        self.allowed = (str(allowed), "/dev/null", "/proc/self/")
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        if event in FORBIDDEN:
            self.seen.append(f"{event} {arguments!r:.80}")
        elif event == "open" and isinstance(arguments[0], str):
            writes = isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
            if writes and not arguments[0].startswith(self.allowed):
                self.seen.append(f"wrote {arguments[0]}")


def same(left: nn.Module, right: nn.Module) -> bool:
    """Whether two modules hold the same bytes, compared the slow and plain way."""
    pairs = zip(left.state_dict().items(), right.state_dict().items(), strict=True)
    return all(
        a == b and x.dtype == y.dtype and x.shape == y.shape and _bytes(x) == _bytes(y)
        for (a, x), (b, y) in pairs
    )


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def work(case: data.Case, where: Path, name: str, watch: Watch) -> Verdict:
    """Examine one file with one recipe. What the rules missed is what ``refused`` says."""
    dtype = torch.bfloat16 if name == "mmap_stream" else None
    recipe = RECIPES[name] if dtype is None else partial(mmap_stream, dtype=dtype)
    outcome: dict[str, object] = {}

    def load(build, path, device):
        watch.on = True
        try:
            module = recipe(build, path, device)
        finally:
            watch.on = False
        outcome["loaded"] = module
        try:
            expected = RECIPES["eager"](build, path, device)
            outcome["same"] = same(module, expected if dtype is None else expected.to(dtype))
        except Exception:
            outcome["same"] = False
        watch.on = True
        try:  # the plugin's own reading of a given file
            verified(path)
            state_in(path)
        except ValueError:
            pass
        finally:
            watch.on = False
        return module

    demands = Demands(frozenset({"robust"}), dtype=dtype)
    verdict = examine(case, load, CPU, demands, where=where)
    missed = outcome and not outcome["same"] and not verdict.findings
    problems = [*watch.seen, *(["accepted, wrong, and not found"] if missed else [])]
    watch.seen.clear()
    accepted = ("accepted",) if outcome else ()
    return Verdict(verdict.findings, refused="; ".join(problems) or None, notes=accepted)


def fuzzed(name: str, files: int, seed: int, watch: Watch, counts: collections.Counter[str]):
    """Examine so many files with one recipe; yields what must not be."""

    def examined(case, where):
        return work(case, where, name, watch)

    limits = Limits(seconds=20, memory=2 * 10**9)
    with isolated(examined, "auto", CPU, limits) as ask:
        for number in range(files):
            key = seed * 1_000_003 + number
            damage = data.Damage(RANDOM, key + 0.5)
            verdict = ask(
                data.Case(MODULES[number % len(MODULES)], data.CheckpointSpec(damage=damage))
            )
            counts["files"] += 1
            counts["died"] += verdict.died
            counts["accepted"] += bool(verdict.notes)
            counts.update(f.code for f in verdict.findings[:1])
            if verdict.refused is not None or verdict.died:
                yield f"{name} {key}: {verdict.refused or verdict.findings[0]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    options = parser.parse_args()
    names = options.recipes.split(",")
    torch.empty(1, device="meta").normal_()
    damages.DAMAGES = {**damages.DAMAGES, RANDOM: damages.Kind("fuzzed", mutated)}
    counts: collections.Counter[str] = collections.Counter()
    problems: list[str] = []
    outside, start = set(Path.cwd().iterdir()), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        tempfile.tempdir = scratch
        watch = Watch(Path(scratch))
        for name in names:
            files = options.files // len(names)
            for problem in fuzzed(name, files, options.seed, watch, counts):
                print(problem, flush=True)
                problems.append(problem)
    if set(Path.cwd().iterdir()) != outside or os.path.lexists("/ckptload-climbed-out"):
        problems.append("a file was left outside of the temporary folder")
    print(f"{dict(counts)} in {time.monotonic() - start:.0f} s, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
