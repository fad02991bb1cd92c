"""CKPT9xx: what the loaded module does, and what the load did besides."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_ckptload.rules.facts import Aftermath, Ambient, Behaviour
from pytest_ckptload.rules.rule import Broken, rule

__all__: list[str] = []


@rule(
    "CKPT901",
    "forward-differs",
    Behaviour,
    statement="On the same input the loaded module gives the same output, bit for bit.",
    explanation=(
        "Asked of layers of `torch.nn`, and with `inputs=` of the module that `build=` makes, in "
        "eval mode and in training, where all tensors are those of the eager module in every "
        "respect: what is left to differ is what no state dict holds, such as numbers kept as "
        "attributes, hooks, a `forward` that was put in another's place, or memory that the layer "
        "keeps outside its parameters. What does not give the same twice is not judged, nor is "
        "what comes of where in memory the tensors lie."
    ),
    cause="The loader changed an attribute, a hook or a method, or the layer keeps old tensors.",
    fix="Compare the attributes of the two layers (`vars(layer)`), and leave them as built.",
    references=("pytorch/pytorch#91111", "pytorch/pytorch#30754"),
)
def forward_differs(behaviour: Behaviour) -> Iterator[Broken]:
    for path, difference in behaviour.outputs.items():
        yield Broken(path or "the module", difference)


@rule(
    "CKPT902",
    "gradients-differ",
    Behaviour,
    statement="From the same output the loaded module gives the same gradients, bit for bit.",
    explanation=(
        "Asked where the outputs are the same: the gradient of their sum, for every parameter that "
        "requires one in the eager module."
    ),
    cause=(
        "A hook on the gradient of a parameter is gone or was added, or the forward pass is cut "
        "off from its parameters (`detach`, `no_grad`)."
    ),
    fix="Keep the parameters that the module was built with, or register their hooks again.",
    references=("axolotl-ai-cloud/axolotl#3977",),
)
def gradients_differ(behaviour: Behaviour) -> Iterator[Broken]:
    for name, difference in behaviour.gradients.items():
        yield Broken(name, difference)


@rule(
    "CKPT903",
    "random-state-differs",
    Aftermath,
    statement="With the promise *rng*, torch's random state is as after an eager load.",
    explanation=(
        "A seeded run that loads in another way goes on with other numbers: dropout, shuffling and "
        "the initialisation of what comes next are not what they were. Without the promise this is "
        "advice."
    ),
    cause="Building draws random numbers, and under `torch.device('meta')` it draws none.",
    fix="Seed after loading, or build on a device under `torch.random.fork_rng()` both ways.",
    references=("Lightning-AI/pytorch-lightning#20204", "meta-pytorch/torchtune#2282"),
    advice=True,
)
def random_state_differs(after: Aftermath) -> Iterator[Broken]:
    if after.random:
        yield Broken(
            "torch's generators",
            "they go on with other numbers than after an eager load",
            demanded="rng" in after.promises,
        )


@rule(
    "CKPT904",
    "global-state-changed",
    Aftermath,
    statement="A load leaves torch's global settings as it found them.",
    explanation=(
        "Default dtype and device, grad mode, autocast, the options of mmap, the swap of "
        "parameters, and the others of their kind: whoever loads next, or builds, does so under "
        "them. The same goes for `torch.load` and the functions that initialise, where others were "
        "put in their place."
    ),
    cause="A setting was changed for the load and not put back, or not where the load raised.",
    fix="Use the context manager (`with torch.device(…)`), or put the old value back in `finally`.",
    references=(
        "ModelCloud/GPTQModel#2995",
        "filliptm/ComfyUI_Fill-ChatterBox#52",
        "huggingface/transformers#28461",
        "vllm-project/vllm#51064",
        "sgl-project/sglang#34440",
    ),
)
def global_state_changed(after: Aftermath) -> Iterator[Broken]:
    for name, (was, became) in after.settings.items():
        yield Broken(name, f"it was {was}, and is {became} after the load")


@rule(
    "CKPT905",
    "default-device",
    Ambient,
    statement="With the promise *ambient*, a load gives the same under any default device.",
    explanation=(
        "Callers build under `with torch.device(…)`, or set a default device for the program. The "
        "loader is called under meta, the CPU and the device that it loads to."
    ),
    cause="The module, or a tensor in it, is made without saying where.",
    fix="Build under `with torch.device(…)` in the loader, and name the device of what it makes.",
    references=(
        "huggingface/transformers#38066",
        "safetensors/safetensors#503",
        "pytorch/pytorch#130792",
    ),
)
def default_device(ambient: Ambient) -> Iterator[Broken]:
    for default, difference in ambient.unlike.items():
        yield Broken(f"under torch.device({default!r})", difference)
