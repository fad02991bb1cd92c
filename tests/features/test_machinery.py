"""What loaders get wrong about modules that take part in construction and loading themselves: for
each feature a loader that is broken in a few lines, and what finds it.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

from pytest_ckptload.case import Case, TensorSpec
from pytest_ckptload.checks import PROMISES, Checker, Defaults
from pytest_ckptload.contents import state_of
from pytest_ckptload.examine.pipeline import examine
from pytest_ckptload.examine.reference import Demands
from pytest_ckptload.examine.subject import Subject
from pytest_ckptload.observe import observe
from pytest_ckptload.recipes import eager, eager_resume
from pytest_ckptload.strategies import covering
from pytest_ckptload.zoo import FEATURES
from pytest_ckptload.zoo.features.machinery.pruned import pruned
from pytest_ckptload.zoo.features.machinery.weight_norm import normed

CPU = torch.device("cpu")
MACHINERY = [n for n, f in FEATURES.items() if ".machinery." in f.apply.__module__]


def read(path):
    return torch.load(path, map_location="cpu", weights_only=True)


# --- broken loaders -----------------------------------------------------------------------------


def by_name(build, path, device):
    """Sets each entry by its name, and calls no code of the module's."""
    module = build()
    for name, value in read(path).items():
        owner, _, last = name.rpartition(".")
        part = module.get_submodule(owner)
        if last in part._parameters:
            part._parameters[last] = nn.Parameter(value)
        elif last in part._buffers:
            part._buffers[last] = value
    return module


def leaves_alone(build, path, device):
    """Loads modules without children only, as "layers", and knows what is called a weight."""
    module, state = build(), read(path)
    for name, part in module.named_modules():
        for last in ("weight", "bias"):
            if (key := f"{name}.{last}" if name else last) in state:
                setattr(part, last, nn.Parameter(state[key]))
    return module


def without_metadata(build, path, device):
    module = build()
    module.load_state_dict(dict(read(path)))
    return module


def emptied(build, path, device):
    """Fills what the file holds, and takes the rest for filled."""
    with torch.device("meta"):
        module = build()
    module.to_empty(device=device)
    module.load_state_dict(read(path))
    return module


def assigned(build, path, device):
    with torch.device("meta"):
        module = build()
    module.load_state_dict(read(path), assign=True)
    return module


def inside_meta(build, path, device):
    """Reads the file where it builds the module."""
    with torch.device("meta"):
        module, state = build(), torch.load(path, weights_only=True)
    module.load_state_dict(state, assign=True)
    return module


def reset(build, path, device):
    module = eager(build, path, device)
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = nn.LayerNorm(1).eps
    return module


def densified(build, path, device):
    module = eager(build, path, device)
    module.matrix = module.matrix.to_dense()
    return module


def untouched(build, path, device):
    return build()


def training(build, path, device):
    return eager(build, path, device).train()


def unwrapped(build, path, device):
    """Takes compiled modules out of their wrappers."""
    module = eager(build, path, device)
    return getattr(module, "_orig_mod", module)


def renamed(build, path, device):
    """Takes what a weight is computed from for the weight."""
    module, state = build(), read(path)
    state = {name.replace("_v", "").replace("_orig", ""): value for name, value in state.items()}
    module.load_state_dict(state, strict=False)
    return module


# What breaks each of the features, and how it is found.
BROKEN = {
    "load-hooks": (by_name, {"CKPT104"}),
    "custom-load": (assigned, {"CKPT303"}),
    "nested-load": (emptied, {"CKPT102"}),
    "value-dependent-init": (assigned, {"CKPT803"}),
    "old-version": (without_metadata, {"CKPT803"}),
    "parametrized": (leaves_alone, {"CKPT104"}),
    "weight-norm": (renamed, {"CKPT104"}),
    "pruned": (renamed, {"CKPT104"}),
    "lazy": (untouched, {"CKPT304"}),
    "containers": (leaves_alone, {"CKPT104"}),
    "eval-mode": (training, {"CKPT307"}),
    "compiled": (unwrapped, {"CKPT301"}),
    "sparse-buffer": (densified, {"CKPT204"}),
    "settings": (reset, {"CKPT901"}),
}


def found(loader, case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of them are warned that they load nothing
        return {f.code for f in examine(case, loader, CPU, Demands()).findings}


def first_case(feature):
    return next(iter(covering(features=[feature])))


@pytest.mark.parametrize("feature", BROKEN)
def test_a_broken_loader_is_found(feature):
    loader, codes = BROKEN[feature]
    assert found(loader, first_case(feature)) >= codes
    assert found(eager, first_case(feature)) == set()


def test_every_feature_is_broken_by_something():
    # Nothing judges extra state, so far.
    assert set(MACHINERY) - set(BROKEN) == {"extra-state"}


def test_a_sparse_entry_that_is_read_inside_the_meta_context_is_left_there():
    # Since 2.14 torch checks the indices that it has read, and finds none there.
    code = "CKPT803" if TorchVersion(torch.__version__) >= "2.14" else "CKPT303"
    assert found(inside_meta, first_case("sparse-buffer")) == {code}


# --- correct ones -------------------------------------------------------------------------------


def copied_by_name(build, path, device):
    """A loader of another style: everything is made on the device, then copied name by name."""
    module = build().to(device)
    state = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, value in read(path).items():
            state[name].copy_(value)
    return module


def moved_afterwards(build, path, device):
    module = eager(build, path, CPU).to(device)
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    return module


STYLES = {
    copied_by_name: {"custom-load", "nested-load", "value-dependent-init", "weight-norm", "pruned"}
    | {"containers", "eval-mode", "compiled", "sparse-buffer"},
    moved_afterwards: set(MACHINERY),
}


@pytest.mark.parametrize(
    ("loader", "feature"),
    [(loader, feature) for loader, features in STYLES.items() for feature in sorted(features)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_correct_loaders_are_not_accused(loader, feature):
    for case in covering(features=[feature]):
        assert found(loader, case) == set(), case


@pytest.mark.parametrize("feature", MACHINERY)
def test_the_reference_is_not_accused(feature):
    checker = Checker(Defaults(strict=True, promises=PROMISES, max_examples=10))
    report = checker.check(eager, features=[feature])
    assert (report.refused, report.advice) == (0, ())
    assert checker.check_resume(eager_resume, features=[feature]).examples


# --- what the features take ---------------------------------------------------------------------


def test_attributes_that_hooks_compute_anew_are_not_observed():
    for module in (
        normed(2, "weight_norm"),
        normed(2, "spectral_norm"),
        pruned(2, 1),
        pruned(2, 2),
    ):
        assert isinstance(module.__dict__["weight"], torch.Tensor)
        assert "weight" not in observe(module).places
    # What is called so without a hook is an attribute as any other.
    plain = nn.Module()
    plain.weight = torch.ones(1)
    assert observe(plain).places["weight"].kind == "attribute"


def test_a_lazy_tensor_is_observed_without_a_shape():
    place = observe(nn.LazyLinear(2)).places["weight"]
    assert place.lazy
    assert place.tensor.numel() == 0


def test_without_strictness_what_the_file_lacks_may_stay_uninitialised():
    case = first_case("lazy")
    lacking = replace(case, checkpoint=replace(case.checkpoint, missing=("0.bias",)))

    def lenient(build, path, device):
        module = build()
        module.load_state_dict(read(path), strict=False)
        return module

    def initialises(build, path, device):
        module = lenient(build, path, device)
        module[0].bias.materialize((2,))
        nn.init.zeros_(module[0].bias)
        return module

    assert found(lenient, lacking) == set()
    assert found(initialises, lacking) == set()


def test_a_file_of_another_shape_that_a_hook_fits_is_no_mismatch_of_shapes():
    """A key is missing besides: that is what a loader may accept without the promise of strict."""
    reshaped = next(c for c in covering(features=["load-hooks"]) if c.checkpoint.tensors)
    case = replace(reshaped, checkpoint=replace(reshaped.checkpoint, extra={"b": TensorSpec()}))

    def lenient(build, path, device):
        return eager(build, path, device, strict=False)

    assert found(lenient, case) == set()


def test_deprecations_do_not_reach_the_user():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for feature in MACHINERY:
            built = [case.build() for case in covering(features=[feature])]
            assert built, feature


def content(case):
    subject = Subject.of(case)
    return state_of(subject.fresh, subject.structure, case.checkpoint)


def test_files_hold_old_names_old_versions_and_other_objects():
    old = content(first_case("old-version"))
    assert list(old) == ["0.scale", "0.kernel"]
    assert old._metadata["0"]["version"] == 1
    assert content(first_case("extra-state"))["0._extra_state"] == {"count": 3}
    fresh = first_case("extra-state").build()
    assert fresh.state_dict()["0._extra_state"] != {"count": 3}


def test_what_a_module_gives_names_that_the_file_lacks_is_judged():
    """The scale that the second version adds is 0.5, and no other value."""
    lacking = next(
        case
        for case in covering(features=["old-version"])
        if case.checkpoint.missing == ("0.scale",)
    )

    def other(build, path, device):
        module = eager(build, path, device)
        module[0].scale.fill_(0.25)
        return module

    assert found(eager, lacking) == set()
    assert found(other, lacking) == {"CKPT101"}


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_a_sparse_entry_has_the_modules_indices_and_values_of_its_own(layout):
    case = next(
        case
        for case in covering(features=["sparse-buffer"])
        if case.module.kwargs["layout"] == layout
    )
    matrix, fresh = content(case)["matrix"], case.build().matrix
    assert matrix.layout == fresh.layout
    assert torch.equal(matrix.to_dense() != 0, fresh.to_dense() != 0)
    assert not torch.equal(matrix.to_dense(), fresh.to_dense())


def test_every_lazy_class_is_covered():
    kinds = {case.module.children["0"].kwargs["kind"] for case in covering(features=["lazy"])}
    assert kinds == {name for name in dir(nn) if name.startswith("Lazy")}


def test_cases_of_the_machinery_go_through_json():
    for feature in MACHINERY:
        for case in covering(features=[feature]):
            assert Case.from_json(case.to_json()) == case
