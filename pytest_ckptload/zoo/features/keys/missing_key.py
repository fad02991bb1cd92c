"""A tensor of the module is not in the file."""

from __future__ import annotations

from pytest_ckptload.zoo.feature import Choose, Feature, Plan


def _apply(plan: Plan, choose: Choose) -> bool:
    slots = plan.free()
    if not slots:
        return False
    plan.missing.append(choose(slots).name)
    return True


def _base(plan: Plan, choose: Choose) -> None:
    kind = choose(("parameter", "tied", "buffer"))
    if kind == "parameter":
        plan.add("Linear", in_features=2, out_features=2)
    elif kind == "tied":
        plan.add("TwoNames", size=2)
    else:
        plan.add("Table", size=2, dtype="float32")


FEATURE = Feature(
    name="missing-key",
    of="checkpoint",
    sentence="A tensor of the module is not in the file.",
    references=("urchade/GLiNER#355", "huggingface/diffusers#12009"),
    apply=_apply,
    loadable=False,
    base=_base,
)
