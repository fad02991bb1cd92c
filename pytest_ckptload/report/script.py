"""A stand-alone script for a case: it needs nothing but torch, and shows the failure.

Apart from the texts because it is a program: it writes the module as calls, the checkpoint as bytes,
and quotes the source of whatever else it needs.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from pytest_ckptload.case import Case, ModuleSpec
from pytest_ckptload.contents import state_of
from pytest_ckptload.finding import Finding
from pytest_ckptload.loader import loader_name
from pytest_ckptload.recipes.eager import eager, state_dict_in
from pytest_ckptload.zoo import factory
from pytest_ckptload.zoo.structure import structure_of

__all__ = ["script"]

_HEAD = '''"""{title}"""

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

Build = Callable[[], nn.Module]
'''

_AT = '''
def at(module, name):
    """The tensor called ``name`` in a finding: ``encoder.0.weight``, ``cache['cos']``."""
    return eval("module" + "".join(f"[{p!r}]" if p.isdigit() else f".{p}" for p in name.split(".")))


def bits(tensor):
    return tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
'''

# What to assert of (loaded, eager) for a finding, by code; {names} are quoted names.
_ASSERTIONS = {
    "CKPT201": "assert at(loaded, {0}).dtype == at(eager_module, {0}).dtype",
    "CKPT202": "assert at(loaded, {0}).shape == at(eager_module, {0}).shape",
    "CKPT203": "assert at(loaded, {0}).stride() == at(eager_module, {0}).stride()",
    "CKPT204": "assert at(loaded, {0}).layout == at(eager_module, {0}).layout",
    "CKPT205": "assert at(loaded, {0}).device == at(eager_module, {0}).device",
    "CKPT206": "assert at(loaded, {0}).requires_grad == at(eager_module, {0}).requires_grad",
    "CKPT207": "assert type(at(loaded, {0})) is type(at(eager_module, {0}))",
    "CKPT301": "at(loaded, {0})",
    "CKPT302": "assert {0} not in dict(loaded.named_parameters()) | dict(loaded.named_buffers())",
    "CKPT303": "assert not at(loaded, {0}).is_meta",
    "CKPT304": "assert ({0} in loaded.state_dict()) == ({0} in eager_module.state_dict())\n"
    "assert isinstance(at(loaded, {0}), nn.Parameter) == "
    "isinstance(at(eager_module, {0}), nn.Parameter)",
    "CKPT401": "assert at(loaded, {0}) is at(loaded, {1})",
    "CKPT402": "with torch.no_grad():\n"
    "    before = at(loaded, {1}).clone()\n"
    "    at(loaded, {0}).zero_()\n"
    "    assert torch.equal(before, at(loaded, {1})), 'writing to one changed the other'",
    "CKPT804": "assert False, 'a file with a key too few or too many was accepted'",
    "CKPT805": "assert False, 'a damaged file was accepted'",
    "CKPT807": "assert isinstance(loaded, nn.Module)",
}
for _code in ("CKPT101", "CKPT102", "CKPT103", "CKPT104"):
    _ASSERTIONS[_code] = "assert bits(at(loaded, {0})).equal(bits(at(eager_module, {0})))"


def script(case: Case, findings: tuple[Finding, ...], loader: Callable[..., Any]) -> str:
    """A program that writes the case's checkpoint, loads it both ways, and asserts what was found.

    A module of the user's own (``build=``) and a loader whose source cannot be had are left as a line
    to be filled in.
    """
    title = f"{findings[0].code} {findings[0].rule} with {loader_name(loader)}"
    parts = [_HEAD.format(title=title), *_definitions(case), _build(case), _AT]
    parts += [_source(state_dict_in), _source(eager), _loader(loader), _main(case, findings)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _source(thing: Callable[..., Any]) -> str:
    helpers = ""
    if thing is state_dict_in:
        from pytest_ckptload.recipes.eager import _is_state

        helpers = textwrap.dedent(inspect.getsource(_is_state)) + "\n\n"
    return helpers + textwrap.dedent(inspect.getsource(thing))


def _definitions(case: Case) -> Iterator[str]:
    """The source of the zoo's classes and functions that the case uses."""
    if case.module is None:
        return
    for name in dict.fromkeys(_names(case.module)):
        made = factory(name)
        if made.__module__.startswith("torch."):
            continue
        source = inspect.getsource(made)
        # A class may be made from another of its file.
        for other in inspect.getmodule(made).__dict__.values():  # type: ignore[union-attr]
            if inspect.isclass(other) and other is not made and other.__module__ == made.__module__:
                if f"{other.__name__}(" in source:
                    yield inspect.getsource(other)
        yield source


def _names(spec: ModuleSpec) -> Iterator[str]:
    yield spec.factory
    for child in spec.children.values():
        yield from _names(child)
    for edit in spec.edits:
        yield edit.function


def _build(case: Case) -> str:
    if case.module is None:
        return "def build():\n    raise NotImplementedError('put your own module factory here')"
    lines = [f"module = {_call(case.module, '')}"]
    lines += [
        f"{edit.function}({_at('module', path)}{_arguments(edit.kwargs, lead=', ')})"
        for path, spec in _specs(case.module, "")
        for edit in spec.edits
    ]
    body = "\n    ".join(["torch.manual_seed(%d)" % case.seed, *lines, "return module"])
    return f"def build():\n    {body}"


def _specs(spec: ModuleSpec, path: str) -> Iterator[tuple[str, ModuleSpec]]:
    for name, child in spec.children.items():
        yield from _specs(child, f"{path}.{name}" if path else name)
    yield path, spec


def _at(root: str, path: str) -> str:
    return f"{root}.get_submodule({path!r})" if path else root


def _call(spec: ModuleSpec, indent: str) -> str:
    prefix = "nn." if factory(spec.factory).__module__.startswith("torch.") else ""
    children = [_call(child, indent + "    ") for child in spec.children.values()]
    if spec.factory == "Sequential":
        inner = ", ".join(children)
    elif spec.factory == "ModuleList":
        inner = f"[{', '.join(children)}]"
    elif spec.factory == "ModuleDict":
        pairs = zip(spec.children, children, strict=True)
        inner = "{" + ", ".join(f"{name!r}: {child}" for name, child in pairs) + "}"
    else:
        inner = _arguments(spec.kwargs)
    return f"{prefix}{spec.factory}({inner})"


def _arguments(kwargs: Any, lead: str = "") -> str:
    shown = [
        f"{name}=torch.{value}" if name == "dtype" else f"{name}={value!r}"
        for name, value in kwargs.items()
    ]
    return lead + ", ".join(shown) if shown else ""


def _loader(loader: Callable[..., Any]) -> str:
    if isinstance(loader, partial):
        inner = _loader(loader.func)
        extra = "".join(f", {name}={value!r}" for name, value in loader.keywords.items())
        return f"{inner}\n\n\ndef load(build, path, device):\n    return {loader_name(loader)}(build, path, device{extra})"
    try:
        source = textwrap.dedent(inspect.getsource(loader))
    except (OSError, TypeError):
        return f"def {loader_name(loader)}(build, path, device):\n    ...  # put your loader here"
    if source.lstrip().startswith("def "):
        return _with_helpers(loader, source)
    module, name = getattr(loader, "__module__", ""), loader_name(loader)
    return f"from {module} import {name}"


def _with_helpers(loader: Callable[..., Any], source: str) -> str:
    """The loader's source after that of the functions of its own file that it calls."""
    home = getattr(loader, "__globals__", {})
    helpers = []
    for name in getattr(loader, "__code__").co_names:
        helper = home.get(name)
        own = getattr(helper, "__module__", None) == loader.__module__
        if inspect.isfunction(helper) and own and helper is not loader:
            helpers.append(textwrap.dedent(inspect.getsource(helper)))
    return "\n\n".join([*helpers, source])


def _main(case: Case, findings: tuple[Finding, ...]) -> str:
    name = "load"
    lines = ["state = OrderedDict()", *_state(case)]
    lines += ["path = Path(tempfile.mkdtemp()) / 'checkpoint.pt'", "torch.save(state, path)"]
    if case.checkpoint.damage is not None:
        lines.append(_damage(case))
    return "\n".join([*lines, f"device = torch.device('cpu')", "", name])


def _damage(case: Case) -> str:
    raise NotImplementedError


def _state(case: Case) -> Iterator[str]:
    yield ""
