"""CKPT3xx: names, kinds and modes: which tensors there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from pytest_ckptload.observe import Place
from pytest_ckptload.observe.objects import alike
from pytest_ckptload.printable import described, shortened
from pytest_ckptload.rules.comparison import Comparison
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []


@rule(
    "CKPT301",
    "name-missing",
    Comparison,
    statement="Every name of the eager module is in the loaded module, with a tensor to be read.",
    explanation=(
        "Parameters, buffers and tensors held as plain attributes count alike. A fake or nested "
        "tensor in the place of an ordinary one counts as none."
    ),
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
        if name in c.actual.opaque:
            what = c.actual.opaque[name]
            yield Broken(name, f"{what}, expected {_a(eager.kind)} that can be read", (name,))
        elif name not in c.actual.places:
            yield Broken(name, f"the loaded module has no {eager.kind} of this name")
    for name, what in c.reference.eager.opaque.items():
        if name not in c.actual.places and name not in c.actual.opaque:
            yield Broken(name, f"the loaded module has nothing of this name, expected {what}")


def _another_module(c: Comparison) -> bool:
    wanted = c.reference.eager.places
    there = c.actual.places.keys() | c.actual.opaque.keys()
    return bool(wanted) and there.isdisjoint(wanted)


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
    "CKPT305",
    "order-changed",
    Comparison,
    statement="Parameters and buffers stand in the order in which construction leaves them.",
    explanation=(
        "The state of an optimizer is saved by number, not by name: with parameters in another "
        "order it is given to the wrong ones, in silence where shapes agree. Exporters go by the "
        "order of buffers, too."
    ),
    cause=(
        "A name was deleted and registered anew, which puts it last, or all were registered in the "
        "order of the file."
    ),
    fix=(
        "Replace what stands under a name (`setattr`, `module._parameters[name] = …`), which keeps "
        "its place."
    ),
    references=("huggingface/transformers#44589", "lucidrains/titans-pytorch#64"),
)
def order_changed(c: Comparison) -> Iterator[Broken]:
    for kinds, what in ((("parameter",), "parameters"), (_BUFFERS, "buffers")):
        mine, wanted = (
            [name for name in one if _kind_in(one, name, kinds) and _kind_in(other, name, kinds)]
            for one, other in (
                (c.actual.places, c.reference.eager.places),
                (c.reference.eager.places, c.actual.places),
            )
        )
        if mine != wanted:
            at = next(i for i, name in enumerate(mine) if name != wanted[i])
            yield Broken(
                mine[at],
                f"stands in the place of {wanted[at]}: the {what} are {_listed(mine)}, "
                f"not {_listed(wanted)}",
            )


_BUFFERS = ("buffer", "non-persistent buffer")


def _kind_in(places: Mapping[str, Place], name: str, kinds: tuple[str, ...]) -> bool:
    return name in places and places[name].kind in kinds


@rule(
    "CKPT306",
    "module-type-changed",
    Comparison,
    statement="Every submodule is there, and of the class that construction gives it.",
    explanation=(
        "A class is behaviour: a dropout that became an identity, or a layer that was replaced by "
        "a fused one, computes something else with the same state dict. Modules that a loader "
        "adds and that hold nothing are left alone."
    ),
    cause="The loader swaps layers for others of its own, or leaves out those without state.",
    fix="Build with the factory that the loader was given, and leave its layers in place.",
    references=("huggingface/transformers#31970", "pytorch/ao#456"),
)
def module_type_changed(c: Comparison) -> Iterator[Broken]:
    if _another_module(c):
        return
    for path, eager in c.reference.eager.parts.items():
        part = c.actual.parts.get(path)
        where, wanted = path or "the module", type(eager).__qualname__
        if part is None:
            # Where tensors went with it, their names say so.
            if not any(name.startswith(f"{path}.") for name in c.reference.eager.places):
                yield Broken(where, f"there is no module here, expected a {wanted}")
        elif (actual := type(part).__qualname__) != wanted:
            yield Broken(where, f"a {actual}, expected a {wanted}")


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


@rule(
    "CKPT308",
    "extra-state-differs",
    Comparison,
    statement="The extra state of every module is that of the eager module.",
    explanation=(
        "What `get_extra_state` gives stands in the state dict under `_extra_state`, and only "
        "`set_extra_state` brings it back: scales of quantised layers, counts, names of things. "
        "Objects of a class that nothing is known of are compared by their class alone."
    ),
    cause="The loader goes through tensors by name and passes over entries that are none.",
    fix="Call `set_extra_state` with the entry, or let `load_state_dict` do it.",
    references=("huggingface/transformers#38154", "Lightning-AI/pytorch-lightning#17695"),
)
def extra_state_differs(c: Comparison) -> Iterator[Broken]:
    for path, wanted in c.reference.eager.extra_state.items():
        name = f"{path}._extra_state" if path else "_extra_state"
        if path not in c.actual.extra_state or isinstance(wanted, Exception):
            continue  # another class, which has a rule of its own; or nothing to compare with
        given = c.actual.extra_state[path]
        if isinstance(given, Exception):
            yield Broken(name, f"asking for it raised {described(given)}")
        elif not alike(given, wanted):
            yield Broken(name, f"{shortened(given)}, expected {shortened(wanted)}")


@rule(
    "CKPT309",
    "hooks-lost",
    Comparison,
    statement="Modules and parameters have the hooks that construction gave them.",
    explanation=(
        "Hooks on modules, and on the gradients of parameters, by kind and name of function. Those "
        "that a loader adds are left alone."
    ),
    cause=(
        "Hooks of a tensor hang on the object: a new Parameter under the same name has none. Hooks "
        "of modules are lost with the module, or by clearing them."
    ),
    fix=(
        "Copy into the module's own tensor, or register the hooks again on the new one after "
        "loading."
    ),
    references=("axolotl-ai-cloud/axolotl#3977",),
)
def hooks_lost(c: Comparison) -> Iterator[Broken]:
    for where, wanted in c.reference.eager.hooks.items():
        gone = where not in c.actual.places and where not in c.actual.parts
        if (gone and where != "the module") or where in c.on_meta:
            continue
        names = c.reference.eager.groups.get(where, (where,))  # gone for each that was tied
        for hook, many in (wanted - c.actual.hooks.get(where, Counter())).items():
            told = f"its {hook} is gone" + (f", {many} times" if many > 1 else "")
            yield Broken(where, told, names)
