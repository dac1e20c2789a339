"""Codec names from the command line -> the contenders of a run: codecs with label, qualities and settings.

A contender is plain data, so that it can be sent to a worker process, which then opens the codec.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vqcodec.bench.lossless_peers import LOSSLESS_PEERS, REFERENCE, LosslessPeer, lossless_peer
from vqcodec.bench.peers import PEERS, ListedPeer, ModelPeer, Peer, peer
from vqcodec.errors import UsageError

if TYPE_CHECKING:
    from vqcodec.model.store import Model

__all__ = ["Contender", "Wanted", "line_up", "line_up_lossless"]


@dataclass(frozen=True)
class Contender:
    """A codec that takes part in a run."""

    label: str
    qualities: tuple[float, ...]  # to measure, in this order
    default: float  # the quality to show where only one is shown
    settings: str  # for display
    versions: tuple[tuple[str, str], ...] = ()  # of the libraries used, besides vqcodec
    model: Path | None = None  # the folder of a vqcodec model
    digest: str = ""  # of the model, hexadecimal; "" for other codecs
    effort: int | None = None
    matches: bool = True  # whether it can produce a file of a given size
    lossless: bool = False  # no sample may change; then the only quality is 0

    def open(self, threads: int) -> Peer:
        """Load the codec. `threads`: the number of threads it may use."""
        from vqcodec.model.store import open_model

        if self.model is not None:
            return ModelPeer(open_model(self.model), self.effort, lossless=self.lossless)
        found = lossless_peer(self.label) if self.lossless else peer(self.label)
        assert found is not None, "a contender without a model is a peer"
        return replace(found, threads=threads)


@dataclass(frozen=True)
class Wanted:
    """The codecs and qualities that were requested, as text."""

    codecs: Sequence[str] = ()  # NAME, NAME:Q,Q,... or the folder of a model
    models: Sequence[str] = ()
    peers: bool = False
    qualities: Sequence[str] = ()
    effort: int | None = None
    anchor: str | None = None
    curves: bool = False  # measure all qualities where none was given


def line_up(wanted: Wanted, matching: bool = False) -> tuple[list[Contender], list[str]]:
    """The contenders in the order in which they were named, and notices about codecs that are left out.

    A codec is left out if it is not installed or if, with `matching`, it cannot produce files of a given size. Of the
    peers that nobody named, those are left out, too, that make the same files as another here. Raises `UsageError` for
    a name or quality that does not exist, or if no codec is left.
    """
    from vqcodec.model.store import bundled

    names = [*wanted.models, *wanted.codecs]
    if not names:
        names = list(bundled())
    unnamed = [entry.name for entry in PEERS if entry.name not in map(_stem, names)]
    if wanted.peers:
        names += unnamed
    known = [*bundled(), *(entry.name for entry in PEERS)]
    if wanted.anchor in known and wanted.anchor not in map(_stem, names):
        names.append(wanted.anchor)
    curves = wanted.curves or wanted.anchor is not None or any(peer(_stem(name)) for name in names)
    contenders: list[Contender] = []
    notices: list[str] = []
    for name in names:
        stem, qualities = _split(name)
        entry = peer(stem)
        if entry is None:
            contender = _of_model(stem, qualities or wanted.qualities, curves, wanted.effort)
            if matching and not contender.matches:
                notices.append(f"{contender.label} is left out: it cannot encode to a given size")
            else:
                contenders.append(contender)
            continue
        reason = entry.missing()
        twin = entry.repeats() if reason is None and name in unnamed and name != wanted.anchor else None
        if twin is not None:
            notices.append(f"{entry.name} is left out: with the libraries here it makes the same files as {twin}")
        elif reason is None:
            contenders.append(_of_peer(entry, qualities))
        else:
            notices.append(f"{entry.name} is left out: {reason}")
    if not contenders:
        raise UsageError("nothing to measure: " + "; ".join(notices))
    return _with_unique_labels(contenders), notices


def line_up_lossless(names: Sequence[str]) -> tuple[list[Contender], list[str]]:
    """The contenders of a comparison without loss, and notices about codecs that are not installed.

    names: models, folders of models and lossless peers; PNG, with which all are compared, is always the first. Without
    names: all peers and the default model. Raises `UsageError` for a name that does not exist.
    """
    from vqcodec.model.store import DEFAULT_MODEL, bundled

    names = list(names) or [*(entry.name for entry in LOSSLESS_PEERS), DEFAULT_MODEL]
    contenders: list[Contender] = []
    notices: list[str] = []
    for name in [REFERENCE, *(name for name in names if name != REFERENCE)]:
        entry = lossless_peer(name)
        if entry is None:
            if name not in bundled() and not os.path.isdir(name):
                known = ", ".join([*bundled(), *(each.name for each in LOSSLESS_PEERS)])
                raise UsageError(f"there is no lossless codec {name!r}; use the folder of a model, or one of: {known}")
            contenders.append(_lossless_model(name))
        elif (reason := entry.missing()) is None:
            contenders.append(_lossless_peer(entry))
        else:
            notices.append(f"{entry.name} is left out: {reason}")
    return _with_unique_labels(contenders), notices


def _lossless_peer(entry: LosslessPeer) -> Contender:
    versions = tuple(entry.versions().items())
    return Contender(entry.name, entry.qualities, 0, entry.settings, versions, matches=False, lossless=True)


def _lossless_model(name: str) -> Contender:
    from vqcodec.model.store import open_model

    model = open_model(name)
    digest = model.digest.hex()
    return Contender(
        label=model.name,
        qualities=(0,),
        default=0,
        settings=f"vqcodec model {digest}, lossless",
        model=model.path.absolute(),
        digest=digest,
        matches=False,
        lossless=True,
    )


def _split(name: str) -> tuple[str, list[str]]:
    """Split "webp:20,40" into ("webp", ["20", "40"]). The name of an existing file or folder is not split."""
    stem, colon, tail = name.rpartition(":")
    if not colon or os.path.exists(name):
        return name, []
    return stem, tail.split(",")


def _stem(name: str) -> str:
    """The name without qualities."""
    return _split(name)[0]


def _of_peer(entry: ListedPeer, qualities: Sequence[str]) -> Contender:
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
        raise UsageError(f"{name}:{text}: the quality must be a number") from None
    return int(value) if value == int(value) else value


def _of_model(name: str, qualities: Sequence[str], curves: bool, effort: int | None) -> Contender:
    from vqcodec.errors import UnknownModel
    from vqcodec.model.store import bundled, open_model

    if name not in bundled() and not os.path.isdir(name):
        known = ", ".join([*bundled(), *(entry.name for entry in PEERS)])
        raise UnknownModel(f"there is no codec {name!r}; use the folder of a model, or one of: {known}")
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
    """The qualities to measure with a model, as given by the -q options. Raises `UsageError`."""
    count = model.config.vqvae.qualities
    if "all" in wanted or (not wanted and curves):
        return tuple(range(1, count + 1))
    for text in wanted:
        if not text.isdecimal() or not 1 <= int(text) <= count:
            raise UsageError(f"-q {text}: the qualities of {model.name} are 1 to {count}, or 'all'")
    return tuple(sorted({int(text) for text in wanted})) or (model.config.default_quality,)


def _with_unique_labels(contenders: Sequence[Contender]) -> list[Contender]:
    """Append the digest to the label of a model whose name is already taken by another model. Raises `UsageError`."""
    found: dict[str, Contender] = {}
    for contender in contenders:
        label = contender.label
        if label in found and contender.digest and contender.digest != found[label].digest:
            label = f"{label}@{contender.digest}"
        if label in found:
            raise UsageError(f"{label} is given twice")
        found[label] = replace(contender, label=label)
    return list(found.values())
