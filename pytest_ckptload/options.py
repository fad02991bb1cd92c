"""Command line, ini keys and environment, made into one frozen ``Settings``.

Apart from the plugin so that options and their checks stand side by side. An option falls back to
the ini key of the same name. Imports neither torch nor Hypothesis: names that only they know
(features, devices, loaders) are checked when somebody uses them.
"""

from __future__ import annotations

import math
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from pytest_ckptload.allowances import Allowance

__all__ = ["SETTINGS", "Settings", "add_options", "settings_from"]


class Settings(NamedTuple):  # made in a tenth of the time of a dataclass, in every session
    """What was asked for, for the whole session. Empty means: not asked for."""

    suite: bool = False
    loaders: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    checkpoint: Path | None = None
    replay: str | None = None
    features: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    promises: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    max_examples: int | None = None
    seed: int | None = None
    shrink: bool = True
    strict: bool = False
    allow: tuple[Allowance, ...] = ()
    coverage: bool = False
    mutants: bool = False
    isolation: str = "auto"
    timeout: float | None = None
    memory: int | None = None


SETTINGS = pytest.StashKey[Settings]()

_LISTS = {
    "loader": "Check this loader, `package.module:function`, or a recipe by its name. Repeatable.",
    "model": "Check with this module factory, `package.module:factory`. Repeatable.",
    "features": "Generate these features only, separated by commas.",
    "without": "Generate all features but these, separated by commas.",
    "promises": "Hold loaders to these promises (`strict`, `robust`, `formats`, `detached`, "
    "`rng`, `ambient`), separated by commas.",
    "devices": "Check on these devices (`all`, `cpu`, `cuda:1`), separated by commas.",
}
_VALUES = {
    "checkpoint": "Check with this very file, which is only read.",
    "replay": "Run this one case, a JSON file or JSON text, as a failure prints it.",
    "max-examples": "Random cases for each check, after the fixed ones. Default: Hypothesis' "
    "settings.",
    "seed": "Draw the random cases from this seed.",
    "isolation": "Where loads run: in a `worker` process that may die, in this process (`off`), or "
    "`auto`: in a worker where that is possible.",
    "timeout": "Seconds that a load may take in a worker. Default: 30, or 20 times what the eager "
    "load of the same file took.",
    "memory": "Memory that a load may take in a worker (`2GB`). Default: half of what is free for "
    "generated models.",
}
_LINES = {
    "allow": "Accept the findings of this rule in all checks, `CODE: reason`, or at some names "
    "alone, `CODE pattern: reason`. Repeatable.",
}
ISOLATIONS = ("auto", "worker", "off")
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_FLAGS = {
    "no-shrink": "Report the first random case that fails, not the smallest.",
    "strict": "Advice fails as findings do.",
    "coverage": "Say in the summary what was tried, how often, and what never.",
    "mutants": "Break each loader that passes a check in many ways, and say which the check finds.",
}


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and ini keys."""
    group = parser.getgroup("ckptload", "ckptload: ways of loading checkpoints")
    group.addoption(
        "--ckptload",
        action="store_true",
        help="Run the conformance suite: alone where no path is given, else beside the tests.",
    )
    for name, text in _LISTS.items():
        group.addoption(f"--ckptload-{name}", action="append", default=None, help=text)
        parser.addini(f"ckptload_{_dest(name)}", text, type="args", default=[])
    for name, text in _LINES.items():
        group.addoption(f"--ckptload-{name}", action="append", default=None, help=text)
        parser.addini(f"ckptload_{_dest(name)}", text, type="linelist", default=[])
    for name, text in _VALUES.items():
        group.addoption(f"--ckptload-{name}", default=None, help=text)
        parser.addini(f"ckptload_{_dest(name)}", text, default=None)
    for name, text in _FLAGS.items():
        group.addoption(f"--ckptload-{name}", action="store_true", default=None, help=text)
        parser.addini(f"ckptload_{_dest(name)}", text, type="bool", default=False)
    group.addoption(
        "--ckptload-rules", action="store_true", help="List all rules, and run nothing."
    )
    group.addoption(
        "--ckptload-rule",
        metavar="CODE",
        help="Explain a rule, by its code or name, and run nothing.",
    )


def settings_from(config: pytest.Config) -> Settings:
    """The settings of this session.

    Raises ``pytest.UsageError`` for a value that cannot be, naming it and what can.
    """
    get = _Reader(config)
    features, without = get.names("features"), get.names("without")
    if both := set(features) & set(without):
        raise pytest.UsageError(
            f"--ckptload-features and --ckptload-without both name {', '.join(sorted(both))}; "
            "name it in one of them"
        )
    loaders, models = get.names("loader"), get.names("model")
    checkpoint, replay = get.path("checkpoint"), get.value("replay")
    if replay is not None and checkpoint is not None:
        raise pytest.UsageError(
            "--ckptload-replay and --ckptload-checkpoint contradict each other: a case brings its "
            "own file; give one of them"
        )
    if get.flag("mutants") and checkpoint is not None:
        raise pytest.UsageError(
            "--ckptload-mutants and --ckptload-checkpoint contradict each other: a given file is "
            "only read, and mutants may write to theirs; leave one of them out"
        )
    for option, values in (("loader", loaders), ("model", models)):
        for value in values:
            if ":" not in value and not (option == "loader" and value.isidentifier()):
                recipe = ", or the name of a recipe" if option == "loader" else ""
                raise pytest.UsageError(
                    f"--ckptload-{option}={value}: expected `package.module:name`{recipe}"
                )
    return Settings(
        suite=bool(config.getoption("--ckptload")),
        loaders=loaders,
        models=models,
        checkpoint=checkpoint,
        replay=replay,
        features=features or None,
        without=without,
        promises=get.names("promises"),
        devices=get.names("devices"),
        max_examples=get.number("max-examples", least=1),
        seed=get.number("seed", least=0),
        shrink=not get.flag("no-shrink"),
        strict=get.flag("strict"),
        allow=get.allowances("allow"),
        coverage=get.flag("coverage"),
        mutants=get.flag("mutants"),
        isolation=get.isolation("isolation"),
        timeout=get.seconds("timeout"),
        memory=get.size("memory"),
    )


SUITE = "ckptload"


def suite_arguments(config: pytest.Config) -> tuple[bool, tuple[str, ...]]:
    """Whether the suite is wanted, and which of its node ids were given as arguments.

    Takes them out of ``config.args``, where pytest would look for files, and all paths that nobody
    typed where only the suite was asked for.
    """
    settings = config.stash[SETTINGS]
    selected = tuple(a for a in config.args if a == SUITE or a.startswith(f"{SUITE}::"))
    selected += tuple(getattr(config, "workerinput", {}).get("ckptload_selected", ()))
    typed = config.args_source is pytest.Config.ArgsSource.ARGS
    paths = [a for a in config.args if a not in selected] if typed else []
    asked = settings.suite or settings.loaders or settings.models or settings.checkpoint
    wanted = bool(asked or selected or (settings.replay is not None and not paths))
    if wanted:
        config.args[:] = paths
    return wanted, selected


def _dest(name: str) -> str:
    return name.replace("-", "_")


class _Reader:
    """Reads an option, or else the ini key of the same name."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def value(self, name: str) -> Any:
        given = self.config.getoption(f"ckptload_{_dest(name)}")
        return given if given is not None else self.config.getini(f"ckptload_{_dest(name)}") or None

    def flag(self, name: str) -> bool:
        return bool(self.value(name))

    def names(self, name: str) -> tuple[str, ...]:
        parts = [part.strip() for text in self.value(name) or () for part in text.split(",")]
        return tuple(dict.fromkeys(part for part in parts if part))

    def allowances(self, name: str) -> tuple[Allowance, ...]:
        lines = self.value(name)
        if not lines:
            return ()
        from pytest_ckptload.allowances import allowances

        given = {}
        for line in lines:
            key, _, reason = line.partition(":")
            if not key.strip() or not reason.strip():
                raise pytest.UsageError(
                    f"--ckptload-{name}={line}: expected the code of a rule and a reason, as in "
                    "`CKPT203: why it is right here`, or in `CKPT203 encoder.*: why`"
                )
            given[key.strip()] = reason
        return allowances(given, f"ckptload_{_dest(name)}")

    def number(self, name: str, *, least: int) -> int | None:
        text = self.value(name)
        if text is None:
            return None
        if not str(text).isdecimal() or int(text) < least:
            raise pytest.UsageError(
                f"--ckptload-{name}={text}: expected a whole number of at least {least}"
            )
        return int(text)

    def isolation(self, name: str) -> str:
        text = self.value(name) or "auto"
        if text not in ISOLATIONS:
            raise pytest.UsageError(
                f"--ckptload-{name}={text}: expected one of {', '.join(ISOLATIONS)}"
            )
        if text == "worker" and not hasattr(os, "fork"):
            raise pytest.UsageError(
                f"--ckptload-{name}=worker: this system cannot fork a process; expected off"
            )
        # A debugger is of no use in another process than the one that it talks to.
        debugging = self.config.getoption("usepdb") or self.config.getoption("trace")
        return "off" if text == "auto" and debugging else str(text)

    def seconds(self, name: str) -> float | None:
        text = self.value(name)
        if text is None:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            raise pytest.UsageError(
                f"--ckptload-{name}={text}: expected seconds, more than 0 and at most "
                f"{threading.TIMEOUT_MAX:.0f}"
            )
        return seconds

    def size(self, name: str) -> int | None:
        text = self.value(name)
        if text is None:
            return None
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(text).strip().lower())
        size = int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else 0
        if not size:
            raise pytest.UsageError(
                f"--ckptload-{name}={text}: expected a size above 0, in bytes or with a unit, "
                "such as 500MB or 2GiB"
            )
        return size

    def path(self, name: str) -> Path | None:
        text = self.value(name)
        if text is None:
            return None
        path = Path(text)
        if not path.is_absolute():
            path = self.config.invocation_params.dir / path
        if not path.is_file():
            what = "is not a file" if path.exists() else "does not exist"
            raise pytest.UsageError(f"--ckptload-{name}={text}: this path {what}")
        return path
