"""What the command line names -> the contenders of a run: codecs, each with its label, qualities and settings.

A contender is plain data, so that it can be sent to another process, which opens it there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec.bench.peers import PEERS, ModelPeer, Peer, PillowPeer, peer
from vqcodec.errors import UsageError

if TYPE_CHECKING:
    from vqcodec.model.store import Model

__all__ = ["Contender", "Wanted", "line_up"]


@dataclass(frozen=True)
class Contender:
    """A codec in a run."""

    label: str
    qualities: tuple[float, ...]  # to be measured, in this order
    default: float  # the quality that stands for the codec where only one is shown
    settings: str  # in words
    versions: tuple[tuple[str, str], ...] = ()  # of what does the work, besides vqcodec
    model: Path | None = None  # the folder of a vqcodec model
    digest: str = ""  # of the model, hexadecimal
    effort: int | None = None
    matches: bool = True  # whether it can make a file of a wanted size

    def open(self, threads: int) -> Peer:
        """The codec itself; `threads` is what it may use."""
        from vqcodec.model.store import open_model

        if self.model is not None:
            return ModelPeer(open_model(self.model), self.effort)
        found = peer(self.label)
        assert found is not None, "a contender without a model is one of PEERS"
        return replace(found, threads=threads)


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as text."""

    codecs: Sequence[str] = ()  # NAME, NAME:Q,Q,... or a model's folder
    models: Sequence[str] = ()
    peers: bool = False
    qualities: Sequence[str] = ()
    effort: int | None = None
    anchor: str | None = None
    curves: bool = False  # whether all qualities are wanted where none was named


def line_up(wanted: Wanted, matching: bool = False) -> tuple[list[Contender], list[str]]:
    """The contenders in the order of their names, and notices about those that are left out, because they are missing
    here or, with `matching`, cannot make files of a wanted size.

    Raises `UsageError` for a name or quality that does not exist, or when nothing is left.
    """
    from vqcodec.model.store import bundled

    names = [*wanted.models, *wanted.codecs]
    if not names:
        names = list(bundled())
    if wanted.peers:
        names += [entry.name for entry in PEERS if not any(_split(name)[0] == entry.name for name in names)]
    known = [*bundled(), *(entry.name for entry in PEERS)]
    if wanted.anchor in known and not any(_split(name)[0] == wanted.anchor for name in names):
        names.append(wanted.anchor)
    curves = wanted.curves or wanted.anchor is not None or any(peer(_split(name)[0]) for name in names)
    contenders: list[Contender] = []
    notices: list[str] = []
    for name in names:
        stem, qualities = _split(name)
        entry = peer(stem)
        if entry is None:
            contender = _of_model(stem, qualities or wanted.qualities, curves, wanted.effort)
            if matching and not contender.matches:
                notices.append(f"{contender.label} is left out: it has one size for each quality, and cannot match one")
            else:
                contenders.append(contender)
            continue
        reason = entry.missing()
        if reason is None:
            contenders.append(_of_peer(entry, qualities))
        else:
            notices.append(f"{entry.name} is left out: {reason}")
    if not contenders:
        raise UsageError("there is nothing to measure: " + "; ".join(notices))
    return _with_unique_labels(contenders), notices


def _split(name: str) -> tuple[str, list[str]]:
    """("webp", ["20", "40"]) of "webp:20,40"; the name of a folder is never split."""
    stem, colon, tail = name.rpartition(":")
    if not colon or os.path.exists(name):
        return name, []
    return stem, tail.split(",")


def _of_peer(entry: PillowPeer, qualities: Sequence[str]) -> Contender:
    low, high = entry.span
    chosen = entry.qualities
    if qualities and qualities != ["all"]:
        chosen = tuple(sorted({_number(text, entry.name) for text in qualities}))
        for value in chosen:
            if not low <= value <= high or (entry.whole and value != int(value)):
                kind = "whole numbers" if entry.whole else "numbers"
                raise UsageError(f"{entry.name}:{value:g}: its qualities are {kind} from {low:g} to {high:g}")
    versions = tuple(entry.versions().items())
    return Contender(entry.name, chosen, chosen[len(chosen) // 2], entry.settings, versions)


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{name}:{text}: a quality is a number") from None
    return int(value) if value == int(value) else value


def _of_model(name: str, qualities: Sequence[str], curves: bool, effort: int | None) -> Contender:
    from vqcodec.errors import UnknownModel
    from vqcodec.model.store import bundled, open_model

    if name not in bundled() and not os.path.isdir(name):
        known = ", ".join([*bundled(), *(entry.name for entry in PEERS)])
        raise UnknownModel(f"there is no codec {name!r}; give the folder of a model, or one of: {known}")
    model = open_model(name)
    config = model.config
    return Contender(
        label=model.name,
        qualities=_qualities(qualities, model, curves),
        default=config.default_quality,
        settings=f"vqcodec model {model.digest.hex()}" + ("" if effort is None else f", effort {effort}"),
        model=model.path.absolute(),
        digest=model.digest.hex(),
        effort=effort,
        matches=min(config.vqvae.lambdas) > 0,
    )


def _qualities(wanted: Sequence[str], model: Model, curves: bool) -> tuple[float, ...]:
    """The qualities that -q options ask for, of those that a model has. Raises `UsageError`."""
    count = model.config.vqvae.qualities
    if "all" in wanted or (not wanted and curves):
        return tuple(range(1, count + 1))
    for text in wanted:
        if not text.isdecimal() or not 1 <= int(text) <= count:
            raise UsageError(f"-q {text}: the qualities of {model.name} are 1 to {count}, or 'all' for all of them")
    return tuple(sorted({int(text) for text in wanted})) or (model.config.default_quality,)


def _with_unique_labels(contenders: Sequence[Contender]) -> list[Contender]:
    """Two models may call themselves the same; then their digests tell them apart."""
    found: dict[str, Contender] = {}
    for contender in contenders:
        label = contender.label
        if label in found and contender.digest and contender.digest != found[label].digest:
            label = f"{label}@{contender.digest}"
        if label in found:
            raise UsageError(f"{label} is named twice")
        found[label] = replace(contender, label=label)
    return list(found.values())
