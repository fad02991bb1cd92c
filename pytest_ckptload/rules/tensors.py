"""CKPT2xx: everything about a tensor but its values and its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from pytest_ckptload.observe import Place
from pytest_ckptload.observe.aliasing import is_dense, strides_of
from pytest_ckptload.observe.objects import alike
from pytest_ckptload.printable import shortened
from pytest_ckptload.rules.comparison import Comparison
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []

Sides = dict[str, tuple[Place, object, object]]


def _axis(
    c: Comparison, what: Callable[[torch.Tensor], object], names: Iterator[str]
) -> Iterator[Broken]:
    """Judge an axis on which a loaded module follows the file or the module, one of them
    throughout.

    ``what`` is the property; ``names`` are those whose property the file may decide.
    """
    eager = c.reference.eager.places
    follows: dict[str, list[str]] = {"assign": [], "copy": []}
    for name in names:
        actual = what(c.actual.places[name].tensor)
        file = what(c.reference.values[c.sources[name]])
        module = what(eager[name].tensor)
        if actual == file == module:
            continue
        if actual != file and actual != module:
            yield Broken(name, f"{actual}, but the file has {file} and the module {module}")
        elif file != module:
            follows["assign" if actual == file else "copy"].append(name)
    wanted = c.reference.semantics
    if wanted is None:
        wanted = "copy" if len(follows["copy"]) > len(follows["assign"]) else "assign"
    if c.reference.semantics is None and not all(follows.values()):
        return
    other = "copy" if wanted == "assign" else "assign"
    for name in follows[other]:
        actual = what(c.actual.places[name].tensor)
        side = "the file" if wanted == "assign" else "the module"
        here = "the module" if wanted == "assign" else "the file"
        why = (
            f"semantics={wanted!r} was asked for"
            if c.reference.semantics
            else f"{len(follows[wanted])} other tensors follow {side}"
        )
        yield Broken(name, f"{actual} follows {here}, while {why}")


@rule(
    "CKPT201",
    "dtype-changed",
    Comparison,
    statement="The dtype is the file's or the module's, one of them throughout a module.",
    explanation=(
        "Assigning keeps the file's dtype, copying keeps the module's: both are right, a "
        "mixture is "
        "not. `semantics=` pins one of them, `dtype=` names the dtype a casting loader must give."
    ),
    cause="The loader casts some tensors and not others, or to a dtype that nobody asked for.",
    fix="Cast all floating tensors or none, and leave integers and booleans alone.",
    references=(
        "pytorch/pytorch#126000",
        "huggingface/transformers#18471",
        "huggingface/transformers#30709",
    ),
)
def dtype_changed(c: Comparison) -> Iterator[Broken]:
    if c.reference.dtype is not None:
        yield from _cast(c, c.reference.dtype)
        return
    judged = [(place, eager) for place, eager in c.shared if place.name not in c.unjudged]
    names = (place.name for place, _ in judged if place.name in c.sources)
    yield from _axis(c, lambda tensor: tensor.dtype, names)
    in_file = {value.dtype for value in c.reference.values.values()}
    for place, eager in judged:
        if place.name in c.customised and place.tensor.dtype in in_file:
            continue
        if place.name not in c.sources and place.tensor.dtype != eager.tensor.dtype:
            yield Broken(
                place.name, f"{place.tensor.dtype}, but construction gives {eager.tensor.dtype}"
            )


def _cast(c: Comparison, dtype: torch.dtype) -> Iterator[Broken]:
    """With ``dtype=``: floating tensors of the file have it, others keep theirs."""
    for place, eager in c.shared:
        name, actual = place.name, place.tensor.dtype
        if name in c.unjudged:
            continue
        own = {eager.tensor.dtype}
        if (built := c.built(name)) is not None:
            own.add(built.dtype)
        if name in c.sources:
            file = c.reference.values[c.sources[name]].dtype
            wanted = {dtype} if file.is_floating_point else own | {file}
        else:
            wanted = own
        if actual not in wanted:
            options = " or ".join(sorted(map(str, wanted)))
            yield Broken(name, f"{actual}, but {options} is wanted with dtype={dtype}")


@rule(
    "CKPT202",
    "shape-changed",
    Comparison,
    statement="Every tensor has the shape that the eager module has.",
    explanation="A tensor of another shape means other code paths, broadcasts, or a later crash.",
    cause="The loader assigned an entry without comparing its shape with the module's.",
    fix="Compare shapes before assigning, as `load_state_dict` does, and refuse what differs.",
    references=("pytorch/pytorch#126604", "huggingface/peft#3676"),
)
def shape_changed(c: Comparison) -> Iterator[Broken]:
    for place, eager in c.shared:
        if place.tensor.shape != eager.tensor.shape:
            yield Broken(
                place.name,
                f"shape {tuple(place.tensor.shape)}, expected {tuple(eager.tensor.shape)}",
            )


@rule(
    "CKPT203",
    "stride-changed",
    Comparison,
    statement="The strides are the file's or the module's, one of them throughout a module.",
    explanation=(
        "Judged for entries that are dense and do not overlap themselves; others must end "
        "dense, or "
        "as they are in the file. Dimensions of size one have no stride that matters."
    ),
    cause="The loader rebuilt the tensor from its bytes and forgot the strides, or permuted it.",
    fix=(
        "Keep the strides of the source (`torch.preserve_format`), or copy into the module's "
        "tensor."
    ),
    references=("safetensors/safetensors#308", "tracel-ai/burn#5383"),
)
def stride_changed(c: Comparison) -> Iterator[Broken]:
    alike = [
        (place, eager)
        for place, eager in c.shared
        if place.tensor.shape == eager.tensor.shape
        and place.name not in c.unjudged
        and place.tensor.layout == torch.strided
    ]
    dense = []
    for place, eager in alike:
        if place.name in c.sources:
            file = c.reference.values[c.sources[place.name]]
            if file.layout != torch.strided or file.shape != place.tensor.shape:
                continue
            if is_dense(file) and not is_dense(eager.tensor) and is_dense(place.tensor):
                continue  # the module's own strides were not to be had: no vote for the file's
            if is_dense(file):
                dense.append(place.name)
            elif not is_dense(place.tensor) and strides_of(place.tensor) not in (
                strides_of(file),
                strides_of(eager.tensor),  # a part of another tensor is dense in no module
            ):
                yield Broken(
                    place.name,
                    f"strides {place.tensor.stride()}, neither dense nor those of the file, "
                    f"{file.stride()}",
                )
        elif place.name in c.customised or (is_dense(place.tensor) and not is_dense(eager.tensor)):
            continue
        elif strides_of(place.tensor) != strides_of(eager.tensor):
            yield Broken(
                place.name, f"strides {place.tensor.stride()}, expected {eager.tensor.stride()}"
            )
    yield from _axis(c, strides_of, iter(dense))


@rule(
    "CKPT204",
    "layout-changed",
    Comparison,
    statement="The layout (strided, sparse, …) is that of the eager module.",
    explanation="A layout decides which operators work and what they cost.",
    cause="The loader made the tensor dense, or assigned a sparse one.",
    fix="Keep the module's layout when copying, and the file's where the module has the same.",
    references=("pytorch/pytorch#134953",),
)
def layout_changed(c: Comparison) -> Iterator[Broken]:
    for place, eager in c.shared:
        if place.tensor.layout != eager.tensor.layout:
            yield Broken(place.name, f"{place.tensor.layout}, expected {eager.tensor.layout}")


@rule(
    "CKPT205",
    "device-changed",
    Comparison,
    statement="Every tensor is on the device where the eager module has it.",
    explanation=(
        "What stays behind on another device fails in the first forward, or is slow for ever."
    ),
    cause="Buffers or plain attributes were not moved with the parameters.",
    fix="Move the module as a whole, or give `map_location` and build on the device.",
    references=("huggingface/accelerate#1710", "huggingface/peft#2113"),
)
def device_changed(c: Comparison) -> Iterator[Broken]:
    for place, eager in c.shared:
        if place.tensor.device != eager.tensor.device:
            yield Broken(place.name, f"on {place.tensor.device}, expected {eager.tensor.device}")


@rule(
    "CKPT206",
    "requires-grad-changed",
    Comparison,
    statement="`requires_grad` is that of the eager module.",
    explanation=(
        "A frozen parameter that trains, or a trainable one that does not, changes what "
        "training does "
        "and what an optimizer is given. The module decides, not the file."
    ),
    cause="The parameter was registered anew, `nn.Parameter(tensor)`, which requires gradients.",
    fix="Pass the old one on: `nn.Parameter(tensor, requires_grad=old.requires_grad)`.",
    references=("pytorch/torchtitan#3886", "huggingface/transformers#32943"),
)
def requires_grad_changed(c: Comparison) -> Iterator[Broken]:
    for place, eager in c.shared:
        if place.tensor.requires_grad != eager.tensor.requires_grad:
            yield Broken(
                place.name,
                f"requires_grad={place.tensor.requires_grad}, expected "
                f"{eager.tensor.requires_grad}",
            )


@rule(
    "CKPT207",
    "tensor-type-lost",
    Comparison,
    statement="Every tensor is of the type that the eager module has.",
    explanation="Subclasses of Parameter and Tensor carry behaviour that is gone with the type.",
    cause=(
        "`load_state_dict(assign=True)` and hand-written loops wrap what the file holds in a plain "
        "`nn.Parameter`."
    ),
    fix=(
        "Copy into the module's own tensor, or rebuild the subclass around the loaded data; "
        "`torch.__future__.set_swap_module_params_on_conversion(True)` swaps contents and "
        "keeps the object."
    ),
    references=("vllm-project/vllm#34201", "pytorch/ao#456"),
)
def tensor_type_lost(c: Comparison) -> Iterator[Broken]:
    for place, eager in c.shared:
        actual, expected = type(place.tensor), type(eager.tensor)
        if actual is not expected and place.kind == eager.kind:
            yield Broken(place.name, f"a {actual.__name__}, expected a {expected.__name__}")


@rule(
    "CKPT208",
    "tensor-attributes-lost",
    Comparison,
    statement="Every tensor has the attributes that construction gave it, with the same values.",
    explanation=(
        "Inference engines hang on a Parameter how it is sharded and which function loads it; "
        "optimizers and schedulers look for a tag. Attributes that a loader adds are no harm. "
        "Objects of a class that nothing is known of are compared by their class alone."
    ),
    cause=(
        "A new Parameter was put in the place of the module's own, as "
        "`load_state_dict(assign=True)` does: what hung on the old one is gone."
    ),
    fix=(
        "Copy into the module's own tensor, or take the old one's `__dict__` over to the new "
        "one: `new.__dict__.update(old.__dict__)`."
    ),
    references=("vllm-project/vllm#34201", "pytorch/ao#456"),
)
def tensor_attributes_lost(c: Comparison) -> Iterator[Broken]:
    for place, eager in c.shared:
        wanted = getattr(eager.tensor, "__dict__", {})
        if not wanted:
            continue
        held = getattr(place.tensor, "__dict__", {})
        for key, value in wanted.items():
            if key in _TORCHS_OWN:
                continue
            if key not in held:
                yield Broken(place.name, f"its attribute {key!r} is gone")
            elif not alike(held[key], value):
                yield Broken(
                    place.name,
                    f"its attribute {key!r} is {shortened(held[key])}, not {shortened(value)}",
                )


# On subclasses of Parameter, and on buffers of lazy modules.
_TORCHS_OWN = ("_is_param", "_is_buffer", "persistent")


@rule(
    "CKPT209",
    "view-bit-kept",
    Comparison,
    statement="No tensor has a conjugate or negative bit that the eager module's has not.",
    explanation=(
        "With the bit set the memory holds something else than the tensor: `numpy()`, `view` of "
        "another dtype, C extensions and some formats refuse it or take the memory for the value. "
        "The values are right, so this is advice."
    ),
    cause="The file holds a view made by `conj()` or `.imag`, and its entry was assigned as it is.",
    fix="Resolve entries before assigning them: `tensor.resolve_conj().resolve_neg()`.",
    references=("safetensors/safetensors#831", "pytorch/pytorch#81690"),
    advice=True,
)
def view_bit_kept(c: Comparison) -> Iterator[Broken]:
    for place, eager in c.shared:
        for bit, has in (("conjugate", torch.is_conj), ("negative", torch.is_neg)):
            if has(place.tensor) and not has(eager.tensor):
                yield Broken(place.name, f"its {bit} bit is set")


@rule(
    "CKPT210",
    "inference-tensor",
    Comparison,
    statement="No tensor was made in inference mode where the eager module's was not.",
    explanation=(
        "Outside of inference mode nothing can be written to such a tensor, and none is kept for "
        "a backward pass: optimizers, running statistics, fine-tuning and the next "
        "`load_state_dict` raise, far from the load. Models that only ever infer may be so: this "
        "is advice."
    ),
    cause="The load ran under `torch.inference_mode()`, perhaps that of whoever called it.",
    fix=(
        "Load under `torch.no_grad()`, or leave inference mode for the load: "
        "`with torch.inference_mode(False)`."
    ),
    references=("ultralytics/ultralytics#25748", "sgl-project/sglang#31263", "pytorch/rl#529"),
    advice=True,
)
def inference_tensor(c: Comparison) -> Iterator[Broken]:
    for place, eager in c.shared:
        if place.tensor.is_inference() and not eager.tensor.is_inference():
            yield Broken(place.name, "it was made in inference mode")
