"""CKPT3xx: names, kinds and modes: which tensors there are."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_ckptload.rules.facts import Comparison
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []


@rule(
    "CKPT301",
    "name-missing",
    Comparison,
    statement="Every name of the eager module is in the loaded module.",
    explanation="Parameters, buffers and tensors held as plain attributes count alike.",
    cause="The loader built another module, deleted a buffer, or renamed on the way.",
    fix=(
        "Build with the factory that the loader was given, and rename keys of the file, not of "
        "the module."
    ),
    references=("pytorch/pytorch#123625", "huggingface/transformers#31970"),
)
def name_missing(c: Comparison) -> Iterator[Broken]:
    if _another_module(c):
        mine, wanted = list(c.actual.places), list(c.reference.eager.places)
        yield Broken("the module", f"another module: it has {_listed(mine)}, not {_listed(wanted)}")
        return
    for name, eager in c.reference.eager.places.items():
        if name not in c.actual.places:
            yield Broken(name, f"the loaded module has no {eager.kind} of this name")


def _another_module(c: Comparison) -> bool:
    wanted = c.reference.eager.places
    return bool(wanted) and not any(name in c.actual.places for name in wanted)


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:4]) or "no tensor"
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


@rule(
    "CKPT302",
    "name-extra",
    Comparison,
    statement="The loaded module has no parameter or buffer that the eager module lacks.",
    explanation=(
        "Such a name goes into the next checkpoint and into every optimizer. Plain attributes "
        "that a "
        "loader adds for itself are no harm and are left alone."
    ),
    cause="The loader registers whatever the file holds, or wraps the module in another.",
    fix="Register only names that the module has; report the others as unexpected.",
    references=("pytorch/pytorch#123625",),
)
def name_extra(c: Comparison) -> Iterator[Broken]:
    if _another_module(c):
        return
    for name, place in c.actual.places.items():
        if name not in c.reference.eager.places and place.kind != "attribute":
            yield Broken(name, f"a {place.kind} that the eager module does not have")


@rule(
    "CKPT303",
    "left-on-meta",
    Comparison,
    statement="Nothing is left on the meta device.",
    explanation=(
        "A meta tensor has no data. Parameters that the file lacks, non-persistent buffers and "
        "tensors "
        "held as plain attributes are not in the state dict, so no load reaches them."
    ),
    cause=(
        "The module was built under `torch.device('meta')`, and the file does not hold this "
        "name; or "
        "`load_state_dict` ran without `assign=True`, which copies into meta tensors and loads "
        "nothing."
    ),
    fix=(
        "Compute it again on the target device after loading (a `reset_parameters` or "
        "`init_buffers` of the module), make the buffer persistent, or build outside the meta "
        "device."
    ),
    references=(
        "pytorch/pytorch#102212",
        "pytorch/pytorch#105963",
        "urchade/GLiNER#355",
        "deepspeedai/DeepSpeed#8479",
    ),
)
def left_on_meta(c: Comparison) -> Iterator[Broken]:
    for name in c.actual.places:
        if name in c.on_meta:
            place = c.actual.places[name]
            held = "in the file" if name in c.reference.values else "not in the file"
            yield Broken(name, f"{_a(place.kind)} of shape {tuple(place.tensor.shape)}, {held}")


@rule(
    "CKPT304",
    "kind-changed",
    Comparison,
    statement="Parameters stay parameters, and buffers stay as persistent as they were.",
    explanation=(
        "The kind decides what an optimizer sees, what `.to()` moves and what the next "
        "checkpoint holds."
    ),
    cause=(
        "A loader registers everything as parameters, or buffers anew without `persistent=False`."
    ),
    fix="Assign through `setattr` or `module._buffers[name]`, which keep the registration.",
    references=("pytorch/torchtitan#3886", "huggingface/transformers#24576"),
)
def kind_changed(c: Comparison) -> Iterator[Broken]:
    for name, eager in c.reference.eager.places.items():
        place = c.actual.places.get(name)
        # What the eager module has no tensor for yet may be anything.
        if place is not None and place.kind != eager.kind and not eager.lazy:
            yield Broken(name, f"{_a(place.kind)}, expected {_a(eager.kind)}")


@rule(
    "CKPT307",
    "mode-changed",
    Comparison,
    statement="Modules are in the mode, training or evaluation, in which construction leaves them.",
    explanation=(
        "Some libraries return `eval()` on purpose, so this is advice: dropout and batch norm "
        "behave "
        "otherwise until `train()` is called."
    ),
    cause="The loader calls `module.eval()` or `module.train()`.",
    fix="Leave the mode to the caller, or say in the loader's documentation that it is set.",
    advice=True,
)
def mode_changed(c: Comparison) -> Iterator[Broken]:
    modes = c.reference.eager.modes
    changed = [
        path for path, training in c.actual.modes.items() if modes.get(path, training) != training
    ]
    if changed:
        now = "training" if c.actual.modes[changed[0]] else "eval"
        yield Broken(
            changed[0] or "the module", f"{len(changed)} of {len(modes)} modules in {now} mode"
        )
