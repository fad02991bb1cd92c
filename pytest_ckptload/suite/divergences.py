"""What stock torch itself gets wrong, in one table.

Apart because it is a record, kept against torch's releases: in the suite each line is an expected
failure, and a torch that behaves makes the suite say so. A user's loader gets no such leave.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_ckptload.case import Case
from pytest_ckptload.finding import Finding

__all__ = ["DIVERGENCES", "Divergence", "divergences_of"]

_ASSIGN = ("meta_assign", "mmap_meta_assign", "mmap_stream")
_SWAP = ("mmap_meta_swap", "mmap_meta_swap_resume")
_RESUME = ("mmap_meta_assign_resume", "mmap_meta_swap_resume")
_RESUMERS = ("eager_resume", *_RESUME)
_MAPPED = ("mmap", "mmap_meta_assign", "mmap_meta_swap", "mmap_stream")
_PLACES = {"cpu": "the CPU", "other": "other devices than the CPU"}
_META = (*_ASSIGN, "mmap_meta_swap", *_RESUME)


@dataclass(frozen=True)
class Divergence:
    """One rule that recipes of torch's break on cases with one feature, or with certain classes.

    ``beside`` is a second feature, where it takes both. ``since`` and ``until`` bound the torch
    releases, the latter not included. ``on`` says where: on the ``"cpu"``, on every ``"other"``
    device, or on ``"all"``.
    """

    code: str
    feature: str | None
    recipes: tuple[str, ...]
    issue: str
    reason: str
    classes: frozenset[str] = frozenset()
    beside: str | None = None
    since: str = "2.1"
    until: str | None = None
    on: str = "all"

    def covers(self, finding: Finding, case: Case) -> bool:
        """Whether this is what the line speaks of."""
        if finding.code != self.code or self.beside not in (None, *case.features):
            return False
        return self.feature in case.features or bool(self.classes & case.classes())

    def shows_on(self, device: str) -> bool:
        """Whether this is so on a device."""
        return self.on in ("all", "cpu" if device == "cpu" else "other")

    def __str__(self) -> str:
        where = "" if self.on == "all" else f", on {_PLACES[self.on]}"
        return f"{self.code}: {self.reason}{where} ({self.issue})"


DIVERGENCES = (
    Divergence(
        "CKPT401",
        "tied",
        _ASSIGN,
        "pytorch/pytorch#188346",
        "assign gives each tied name its own",
        # Also what other features are put on, which may then find no place on it.
        classes=frozenset({"TwoNames"}),
    ),
    Divergence(
        "CKPT401",
        "tied-buffer",
        ("meta_assign", "mmap_meta_assign", "mmap_meta_assign_resume"),
        "pytorch/pytorch#188346",
        "assign gives each tied name its own",
        # Elsewhere it is let pass, as `Module.to` does the same to buffers.
        on="cpu",
    ),
    Divergence(
        "CKPT303",
        "tied-buffer",
        (*_ASSIGN, "mmap_meta_assign_resume"),
        "pytorch/pytorch#188346",
        "a name that is not saved does not follow the tied one that is",
    ),
    Divergence(
        "CKPT401",
        "view-parameter",
        ("meta_assign", "mmap_meta_assign", "mmap_meta_swap", "mmap_meta_assign_resume"),
        "TransformerLensOrg/TransformerLens#1637",
        "a Parameter that is a view of another becomes one of its own",
    ),
    Divergence(
        "CKPT303",
        "alias-attribute",
        (*_ASSIGN, "mmap_meta_assign_resume"),
        "pytorch/pytorch#102212",
        "what holds a Parameter besides the module keeps the one that was built on meta",
    ),
    Divergence(
        "CKPT303",
        "buffer-from-parameter",
        _META,
        "pytorch/pytorch#102212",
        "non-persistent buffers stay on meta",
    ),
    Divergence(
        "CKPT803",
        "tied",
        ("mmap_meta_assign_resume",),
        "pytorch/pytorch#188346",
        "assign gives each tied name its own, and the optimizer's state has one too few",
    ),
    Divergence(
        "CKPT401",
        None,
        ("mmap_meta_assign_resume",),
        "pytorch/pytorch#188346",
        "assign gives each tied name its own, which an optimizer that steps neither does not miss",
        classes=frozenset({"tie", "TwoNames", "ThreeNames"}),
    ),
    Divergence(
        "CKPT803",
        "lazy",
        ("mmap_meta_swap_resume",),
        "pfnet/pytorch-pfn-extras#187",
        "an optimizer that goes by shapes cannot be made before lazy parameters have theirs",
    ),
    Divergence(
        "CKPT303",
        "buffer-nonpersistent",
        _META,
        "pytorch/pytorch#102212",
        "non-persistent buffers stay on meta",
    ),
    Divergence(
        "CKPT303",
        "plain-attribute",
        _META,
        "pytorch/pytorch#102212",
        "tensors held as plain attributes stay on meta",
    ),
    Divergence(
        "CKPT207",
        "parameter-subclass",
        _META,
        "vllm-project/vllm#34201",
        "a subclass of Parameter becomes a plain Parameter",
    ),
    Divergence(
        "CKPT208",
        "parameter-attributes",
        _META,
        "pytorch/ao#456",
        "the attributes of a Parameter stay behind on the one that was built on meta",
    ),
    Divergence(
        "CKPT309",
        "parameter-hooks",
        (*_ASSIGN, "mmap_meta_assign_resume"),
        "pytorch/pytorch#102212",
        "the hooks of a Parameter stay behind on the one that was built on meta",
    ),
    Divergence(
        "CKPT902",
        "parameter-hooks",
        ("mmap_meta_swap",),
        "pytorch/pytorch#117167",
        "swapping moves the list of a gradient's hooks, and leaves those with the other tensor",
    ),
    Divergence(
        "CKPT303",
        "custom-load",
        _META,
        "pytorch/pytorch#105963",
        "a copy in place into a meta tensor does nothing",
    ),
    Divergence(
        "CKPT508",
        "custom-load",
        _RESUME,
        "pytorch/pytorch#105963",
        "LBFGS reads all parameters at once, and cannot where one is left on meta",
    ),
    Divergence(
        "CKPT303",
        "nested-load",
        _META,
        "huggingface/transformers#37615",
        "what construction loads on meta is not loaded",
    ),
    Divergence(
        "CKPT803",
        "value-dependent-init",
        _META,
        "huggingface/transformers#43957",
        "a constructor that reads values cannot run on meta",
    ),
    Divergence(
        "CKPT803",
        "parametrized",
        _META,
        "huggingface/transformers#43957",
        "orthogonal reads values at construction, which cannot run on meta",
    ),
    Divergence(
        "CKPT803",
        "weight-norm",
        _SWAP,
        "pytorch/pytorch#127313",
        "swapping refuses parameters that the graph of a computed weight holds",
    ),
    Divergence(
        "CKPT803",
        "pruned",
        _SWAP,
        "pytorch/pytorch#127313",
        "swapping refuses a mask that the graph of a computed weight holds",
    ),
    Divergence(
        "CKPT402",
        "views",
        ("meta_assign", "mmap_meta_assign", "mmap_meta_swap"),
        "pytorch/pytorch#158080",
        "overlapping views in the file share memory in the module",
    ),
    Divergence(
        "CKPT402",
        "views",
        ("mmap_stream",),
        "pytorch/pytorch#158080",
        "overlapping views in the file share memory in the module",
        # Elsewhere each is moved by itself.
        on="cpu",
    ),
    Divergence(
        "CKPT205",
        "old-version",
        _META,
        "pytorch/pytorch#115285",
        "a counter that an old file lacks is made on the CPU",
        on="other",
    ),
    Divergence(
        "CKPT404",
        "expanded",
        ("meta_assign", "mmap_meta_assign", "mmap_meta_swap"),
        "lucidrains/titans-pytorch#64",
        "an expanded entry stays expanded, and no optimizer can step it",
    ),
    Divergence(
        "CKPT404",
        "expanded",
        ("mmap_stream",),
        "lucidrains/titans-pytorch#64",
        "an expanded entry that is not cast stays expanded",
        beside="integer-parameters",
    ),
    Divergence(
        "CKPT206",
        "parameters-saved",
        ("meta_assign", "mmap_meta_assign"),
        "pytorch/pytorch#102212",
        "a buffer that the file has as a Parameter requires gradients",
    ),
    Divergence(
        "CKPT304",
        "parameters-saved",
        ("meta_assign", "mmap_meta_assign"),
        "pytorch/pytorch#102212",
        "a buffer that the file has as a Parameter becomes one",
    ),
    Divergence(
        "CKPT803",
        "legacy",
        _MAPPED,
        "pytorch/pytorch#102549",
        "files from before the zip archive cannot be mapped",
    ),
    Divergence(
        "CKPT101",
        "deflated",
        _MAPPED,
        "pytorch/pytorch#102549",
        "mapping takes the bytes of a compressed record for those of its tensor",
    ),
    Divergence(
        "CKPT308",
        "deflated",
        _MAPPED,
        "pytorch/pytorch#102549",
        "mapping takes the bytes of a compressed record for those of extra state",
        beside="extra-state",
    ),
    Divergence(
        "CKPT801",
        "deflated",
        _MAPPED,
        "pytorch/pytorch#102549",
        "the indices of a sparse tensor are compressed bytes, which lead out of its memory",
        beside="sparse-buffer",
    ),
    Divergence(
        "CKPT801",
        "unaligned",
        _MAPPED,
        "pytorch/pytorch#190043",
        "numbers of 16 bytes are read by instructions that take no other address than theirs",
        beside="complex",
        on="cpu",
    ),
    Divergence(
        "CKPT801",
        "deflated",
        _MAPPED,
        "pytorch/pytorch#190043",
        "numbers of 16 bytes are read by instructions that take no other address than theirs",
        beside="complex",
        on="cpu",
    ),
    Divergence(
        "CKPT101",
        "damaged",
        _MAPPED,
        "pytorch/pytorch#102549",
        "mapping takes the bytes of a compressed record for those of its tensor",
        until="2.10",  # from then on, eager loading refuses a record of another size
    ),
    Divergence(
        "CKPT805",
        "damaged",
        _MAPPED,
        "pytorch/pytorch#102549",
        "mapping takes a record's place from the archive and its size from the pickle",
        since="2.10",
    ),
    Divergence(
        "CKPT805",
        "damaged",
        ("eager", "meta_assign"),
        "pytorch/pytorch#184652",
        "memory that a record is too short for grows to what the tensor takes",
        on="other",
    ),
    Divergence(
        "CKPT803",
        None,
        _SWAP,
        "pytorch/pytorch#186796",
        "swapping refuses parameters that a recurrent module holds weak references to",
        classes=frozenset({"RNN", "LSTM", "GRU"}),
    ),
    Divergence(
        "CKPT803",
        "fused",
        ("mmap_meta_swap_resume",),
        "pytorch/pytorch#131153",
        "a fused optimizer refuses the parameters that are on meta yet",
        until="2.6",
    ),
    Divergence(
        "CKPT510",
        "state-dtype",
        _RESUMERS,
        "pytorch/pytorch#43706",
        "floating state is cast to the dtype of its parameter",
    ),
    Divergence(
        "CKPT510",
        "low-precision",
        _RESUMERS,
        "pytorch/pytorch#43706",
        "what NAdam and ASGD count in float32 is cast to the dtype of the parameter, and rounded",
    ),
    Divergence(
        "CKPT510",
        "mixed-dtype",
        _RESUMERS,
        "pytorch/pytorch#43706",
        "what NAdam and ASGD count in float32 is cast to the dtype of the parameter",
    ),
    Divergence(
        "CKPT511",
        "reordered-parameters",
        _RESUMERS,
        "pytorch/pytorch#1489",
        "state is given out in the order of the parameters, though the file has their names",
        since="2.6",
    ),
)


def divergences_of(recipe: str, torch_version: str) -> list[Divergence]:
    """The lines of the table for one recipe and one release of torch."""
    version = _release(torch_version)
    return [
        line
        for line in DIVERGENCES
        if recipe in line.recipes
        and _release(line.since) <= version
        and (line.until is None or version < _release(line.until))
    ]


def _release(version: str) -> tuple[int, int]:
    """``"2.13.0+cpu"`` as ``(2, 13)``; torch fixes such things in minor releases."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
