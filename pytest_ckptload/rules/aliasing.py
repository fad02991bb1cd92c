"""CKPT4xx: which names are one tensor, and which tensors share memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice

from pytest_ckptload.observe.aliasing import overlaps_with_itself
from pytest_ckptload.rules.comparison import Comparison
from pytest_ckptload.rules.facts import SecondLoad
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []


@rule(
    "CKPT401",
    "tie-lost",
    Comparison,
    statement="Names that are one tensor in the eager module are one tensor in the loaded module.",
    explanation=(
        "A tie is one object under several names. Two Parameters over one storage look tied "
        "until an "
        "optimizer keeps a state for each, a `.to()` separates them, or gradients are not summed. "
        "A tensor that is a view of another by construction must stay one. "
        "Where the file holds different values for tied names, a loader may keep them apart."
    ),
    cause=("`load_state_dict(assign=True)` gives every name a new Parameter of its own."),
    fix=(
        "Tie again after loading (`module.head.weight = module.embedding.weight`, "
        "`tie_weights()`), or "
        "assign by tensor object instead of by name."
    ),
    references=(
        "pytorch/pytorch#188346",
        "huggingface/accelerate#1197",
        "ModelCloud/GPTQModel#1119",
        "TransformerLensOrg/TransformerLens#1637",
    ),
)
def tie_lost(c: Comparison) -> Iterator[Broken]:
    eager = c.reference.eager
    for group in dict.fromkeys(eager.groups.values()):
        present = tuple(n for n in group if n in c.actual.places and n not in c.on_meta)
        if len(present) < 2:
            continue
        objects = {id(c.actual.places[name].tensor) for name in present}
        if len(objects) == 1:
            continue
        if c.differ_in_file(group):
            continue
        if eager.places[group[0]].kind != "parameter" and c.moved(group[0]):
            continue
        yield Broken(
            " = ".join(present),
            f"one {eager.places[group[0]].kind} in the eager module, {len(objects)} tensors here",
            present,
        )
    for pair, overlap in eager.overlaps.items():
        if not all(n in c.actual.places and n not in c.on_meta for n in pair):
            continue
        if c.torn_in_file(overlap.names):
            continue
        if not c.actual.together(*overlap.names):
            yield Broken(
                " ~ ".join(overlap.names),
                "one is a view of the other in the eager module, two separate tensors here",
                overlap.names,
            )


@rule(
    "CKPT402",
    "alias-gained",
    Comparison,
    statement="Tensors that are independent in the eager module share no element.",
    explanation=(
        "Elements count, not storages: slices of one buffer that lie side by side are independent. "
        "Tensors with an element in common are both changed by every step of an optimizer."
    ),
    cause=(
        "Entries of the file are views of one storage. Copying separates them, assigning keeps "
        "them "
        "together."
    ),
    fix="Clone entries that overlap another before assigning them.",
    references=("pytorch/pytorch#158080", "huggingface/accelerate#4083"),
)
def alias_gained(c: Comparison) -> Iterator[Broken]:
    eager = c.reference.eager
    for overlap in c.actual.overlaps.values():
        first, second = overlap.names
        others = [
            (one, two)
            for one in c.actual.groups[first]
            for two in c.actual.groups[second]
            if _independent(c, one, two)
        ]
        if others:
            how = "the same elements" if overlap.same else "elements in common"
            tied = (*c.actual.groups[first], *c.actual.groups[second])
            names = tuple(dict.fromkeys((*others[0], *tied)))
            yield Broken(" ~ ".join(others[0]), f"two tensors with {how}", names)
    for group in dict.fromkeys(c.actual.groups.values()):
        known = [name for name in group if name in eager.places]
        apart = (pair for pair in combinations(known, 2) if _independent(c, *pair))
        for one, two in islice(apart, 1):
            yield Broken(f"{one} = {two}", "one tensor under two names", (one, two))


def _independent(c: Comparison, one: str, two: str) -> bool:
    groups = c.reference.eager.groups
    if one not in groups or two not in groups:
        return False
    return not any(module.together(one, two) for module in c.uncast)


@rule(
    "CKPT403",
    "loads-share-memory",
    SecondLoad,
    statement="Two loads of one file share no memory.",
    explanation=(
        "Each caller takes its module for its own: training one, or moving it, must not change the "
        "other. Tensors that construction itself shares between modules are left alone."
    ),
    cause=(
        "What was read is kept and given out again, and assigned without a copy; or the file is "
        "mapped with MAP_SHARED."
    ),
    fix="Read, or map privately, for each load; or copy what a cache gives out.",
    references=("pytorch/rl#3966", "vllm-project/vllm#32718"),
)
def loads_share_memory(second: SecondLoad) -> Iterator[Broken]:
    for first, other in second.shared:
        yield Broken(first, f"it has elements in common with {other} of the next load", (first,))


@rule(
    "CKPT404",
    "overlaps-itself",
    Comparison,
    statement="No tensor overlaps itself where the eager module's does not.",
    explanation=(
        "Several elements of such a tensor are one place in memory. Reading it is right; writing "
        "in place raises, or changes the others along with it: no optimizer can step it, and no "
        "running statistic be kept in it."
    ),
    cause=(
        "The file holds an expanded tensor (`expand`, stride 0), and its entry was assigned as it "
        "is."
    ),
    fix="Make entries that overlap themselves dense before assigning them: `tensor.contiguous()`.",
    references=("lucidrains/titans-pytorch#64",),
)
def overlaps_itself(c: Comparison) -> Iterator[Broken]:
    for place, eager in c.shared:
        tensor = place.tensor
        if overlaps_with_itself(tensor) and not overlaps_with_itself(eager.tensor):
            yield Broken(
                place.name,
                f"elements share memory: shape {tuple(tensor.shape)}, strides {tensor.stride()}",
            )
