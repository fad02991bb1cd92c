"""Bytes and aliases: what the rules rest on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_ckptload.observe import observe
from pytest_ckptload.observe.aliasing import is_dense, overlaps, strides_of
from pytest_ckptload.observe.tensors import (
    first_difference,
    is_poison,
    plain,
    same_bits,
    same_but_nan,
)

DTYPES = [
    getattr(torch, name)
    for name in [
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e8m0fnu",
        "float4_e2m1fn_x2",
        "complex128",
        "complex64",
        "complex32",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    ]
    if hasattr(torch, name)
]


def pattern(dtype, count=9):
    width = dtype.itemsize
    data = torch.arange(count * width, dtype=torch.uint8)
    return (data % 2 if dtype == torch.bool else data).view(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_bit_anywhere_is_seen_and_named(dtype):
    for element in range(9):
        left, right = pattern(dtype), pattern(dtype)
        right.view(torch.uint8)[element * dtype.itemsize] ^= 1
        assert same_bits(left, pattern(dtype))
        assert not same_bits(left, right)
        difference = first_difference(right, left)
        assert (difference.index, difference.count, difference.total) == ((element,), 1, 9)
        assert "0x" in difference.actual
        assert difference.actual != difference.expected


@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 31])
def test_any_offset_and_length_is_compared_whole(offset, count):
    base = torch.arange(64, dtype=torch.uint8)
    left = base[offset : offset + count]
    assert same_bits(left, left.clone())
    for position in range(count):
        other = left.clone()
        other[position] += 1
        assert not same_bits(left, other)
        assert not same_bits(other, left)


def test_layouts_that_differ_compare_by_logical_order():
    tensor = torch.arange(6.0).view(2, 3)
    assert same_bits(tensor, tensor.t().contiguous().t())
    assert same_bits(tensor.t(), tensor.t().contiguous())
    assert not same_bits(tensor.t().contiguous().view(2, 3), tensor)
    assert same_bits(torch.ones(1).expand(4), torch.ones(4))


def test_signs_of_zero_and_payloads_are_bits():
    assert not same_bits(torch.tensor(0.0), torch.tensor(-0.0))
    nan = torch.tensor(0x7FC00ABC, dtype=torch.int32).view(torch.float32)
    assert not same_bits(nan, torch.tensor(float("nan")))
    assert same_but_nan(nan, torch.tensor(float("nan")))
    assert not same_but_nan(torch.tensor(0.0), torch.tensor(-0.0))


@pytest.mark.parametrize("make", [torch.Tensor.conj, lambda t: t.conj().imag])
def test_conjugation_and_negation_are_resolved(make):
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    lazy = make(tensor)
    assert same_bits(lazy, make(tensor).clone().resolve_conj().resolve_neg())


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_sparse_tensors_are_compared_by_contents():
    dense = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert same_bits(dense.to_sparse(), dense)
    assert plain(dense.to_sparse_csr()).equal(dense)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_poison_is_what_torch_fills_with(dtype):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        try:
            poison = torch.empty(3, dtype=dtype)
        except NotImplementedError:
            pytest.skip("torch cannot fill this dtype")
    finally:
        torch.use_deterministic_algorithms(False)
    assert is_poison(poison) == (dtype != torch.bool)
    assert not is_poison(pattern(dtype))


# --- aliasing


def pairs(**tensors):
    return {tuple(sorted(pair)) for pair in overlaps(tensors)}


def by_elements(left, right):
    """The slow truth: the addresses of all elements."""

    def addresses(tensor):
        width = tensor.element_size()
        found = set()
        for index in torch.cartesian_prod(*map(torch.arange, tensor.shape)).view(-1, tensor.dim()):
            start = tensor.data_ptr() + width * sum(
                int(i) * s for i, s in zip(index, tensor.stride(), strict=True)
            )
            found |= set(range(start, start + width))
        return found

    return bool(addresses(left) & addresses(right))


def test_overlap_is_of_elements_against_brute_force():
    generator = torch.Generator().manual_seed(0)
    base = torch.zeros(400)
    met = {True: 0, False: 0}

    def draw(high):
        return int(torch.randint(1, high, (), generator=generator))

    for _ in range(400):
        views = []
        for _ in range(2):
            sizes, strides = (draw(4), draw(4)), (draw(20), draw(6))
            views.append(base.as_strided(sizes, strides, draw(60)))
        expected = by_elements(*views)
        met[expected] += 1
        assert (("a", "b") in pairs(a=views[0], b=views[1])) == expected
    assert min(met.values()) > 50


def test_interleaved_columns_are_independent():
    fused = torch.zeros(4, 6)
    assert pairs(q=fused[:, :2], k=fused[:, 2:4], v=fused[:, 4:]) == set()
    assert pairs(q=fused[:, :3], k=fused[:, 2:4]) == {("k", "q")}


def test_same_elements_through_another_dtype_overlap():
    base = torch.zeros(4)
    assert pairs(a=base[:2], b=base.view(torch.int64)[1:]) == set()
    assert pairs(a=base[:3], b=base.view(torch.int64)[1:]) == {("a", "b")}


def test_what_has_no_memory_shares_none():
    meta = torch.zeros(3, device="meta")
    empty = torch.zeros(0)
    assert pairs(a=meta, b=meta.view(3), c=empty, d=empty.view(0)) == set()
    assert pairs(a=torch.zeros(2).to_sparse(), b=torch.zeros(2)) == set()


def test_dense_and_strides():
    tensor = torch.zeros(2, 3, 4)
    assert is_dense(tensor.permute(2, 0, 1))
    assert not is_dense(tensor[:, :2])
    assert not is_dense(torch.zeros(1).expand(3))
    assert strides_of(torch.zeros(1, 3)[:, :1]) == ()
    assert strides_of(torch.zeros(0, 3)) == ()


# --- modules


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_parameter("nothing", None)
        self.register_buffer("kept", torch.zeros(1))
        self.register_buffer("fleeting", torch.zeros(1), persistent=False)
        self.register_buffer("absent", None)
        self.plain = torch.zeros(1)
        self.listed = [self.weight, 3]
        self.named = {"cos": torch.zeros(1)}
        self.child = nn.Linear(1, 1)


def test_every_tensor_has_its_kind():
    seen = observe(Everything())
    assert {name: place.kind for name, place in seen.places.items()} == {
        "weight": "parameter",
        "kept": "buffer",
        "fleeting": "non-persistent buffer",
        "plain": "attribute",
        "listed[0]": "attribute",
        "named['cos']": "attribute",
        "child.weight": "parameter",
        "child.bias": "parameter",
    }
    assert seen.groups["listed[0]"] == ("weight", "listed[0]")


def test_modules_that_load_by_code_of_their_own_are_known():
    class Own(nn.Linear):
        def _load_from_state_dict(self, *args):
            super()._load_from_state_dict(*args)

    hooked = nn.Linear(1, 1)
    hooked.register_load_state_dict_pre_hook(lambda *args: None)
    model = nn.Sequential(Own(1, 1), nn.BatchNorm1d(1), hooked)
    assert observe(model).customised == {"0.", "2."}
