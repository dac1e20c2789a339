"""A training run and its folder: all stages from pictures to a finished model. A run can be resumed at any time.

RUN/config.json                      the ModelConfig; later commands must use the same
RUN/vqvae/checkpoint.safetensors     stage one, with its log.csv
RUN/prior/checkpoint.safetensors     stage two, with its log.csv
RUN/model/                           the model whose decoder stage three trains
RUN/decoder/checkpoint.safetensors   stage three, with its log.csv and the codes that it is trained on
RUN/postfilter/kernels.safetensors   stage four, which uses the same codes
OUT/                                 the exported model, for --model
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vqcodec.errors import ModelError, UsageError
from vqcodec.model.config import MAX_KERNELS, ModelConfig, from_json, to_json
from vqcodec.model.store import Model, export_model, open_model
from vqcodec.progress import share_of
from vqcodec.train.data import Augment, class_names, load_pictures
from vqcodec.train.decoder import CodesToSearch, DecoderTraining, searched_codes, train_decoder
from vqcodec.train.distributed import Processes, check_batch
from vqcodec.train.loop import CHECKPOINT, Schedule, Status
from vqcodec.train.networks.quantizer import VectorQuantizer
from vqcodec.train.networks.vqvae import VQVAE
from vqcodec.train.networks.weights import load_network, open_network, round_weights, save_model, save_network
from vqcodec.train.postfilter_kernels import solve_kernels
from vqcodec.train.prior import PriorTraining, train_prior
from vqcodec.train.qualities import at_qualities, in_proportion, keep_qualities
from vqcodec.train.vqvae import VQVAETraining, train_vqvae

__all__ = ["Project", "read_config"]

KERNELS = "kernels.safetensors"
# When the price of a bit (lambda times rate share) falls, a codebook becomes finer, because misfits become codes. When
# it rises, the codebook hardly becomes coarser, because few codes die. So a codebook is initialised again if its price
# has risen by more than this factor.
MAX_PRICE_RISE = 1.1


@dataclass(frozen=True)
class Project:
    """A training run: its folder, its data and the callback for reports."""

    folder: Path
    data: Sequence[Path]  # folders of images, tar shards
    report: Callable[[Status], None]
    augment: Augment = "photo"

    def train_vqvae(
        self, config: ModelConfig, schedule: Schedule, batch: int, crop: int, start: Path | None = None
    ) -> None:
        """Stage one: train networks and codebooks.

        `crop`: side of the training crops in pixels, rounded down to a multiple of the stride. `start`: the folder of a
        model whose networks and codebooks initialise a new run. They must have the same shapes, except for the number
        of qualities. Codebooks whose price of a bit has risen are initialised again. Raises `UsageError`.
        """
        check_batch(batch, schedule.accumulate)
        self._refuse_after_decoder()
        self._check_config(config)
        crop = _whole_positions(crop, config.vqvae.stride)
        pictures = load_pictures(self.data, crop, augment=self.augment)
        settings = VQVAETraining(config.vqvae, schedule, batch, crop)
        network, anew = (None, ()) if start is None else _initial_networks(start, config)
        train_vqvae(settings, pictures, self.folder / "vqvae", self.report, network, anew)

    def train_prior(self, schedule: Schedule, batch: int, crop: int, start: Model | None = None) -> list[str]:
        """Stage two: train the prior on the codes of the autoencoder of stage one.

        Returns the names of the classes in the order of their labels. They are the folders of the pictures; the list is
        empty if the prior has no labels. `start`: a model whose prior initialises a new run; see train/warm_start.py.
        Raises `UsageError`.
        """
        check_batch(batch, schedule.accumulate)
        self._refuse_after_decoder()
        config = self.config()
        crop = _whole_positions(crop, config.vqvae.stride)
        network = self.network()
        pictures = load_pictures(self.data, crop, augment=self.augment)
        classes = class_names(pictures, config.prior.labels) if config.prior.labels else []
        settings = PriorTraining(config.prior, schedule, batch, crop)
        train_prior(settings, network, pictures, self.folder / "prior", self.report, start)
        return classes

    def train_decoder(
        self,
        schedule: Schedule,
        batch: int,
        crop: int,
        crops: int,
        start: Model | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Stage three: train the decoder of a finished model, `start` or the result of the first two stages.

        `crops`: the number of crops to search codes for; `progress` reports on that search. Raises `UsageError`.
        """
        check_batch(batch, schedule.accumulate)
        model = self._finished_model(start)
        crop = _whole_positions(crop, model.config.vqvae.stride)
        pictures = load_pictures(self.data, crop, augment=self.augment)
        settings = DecoderTraining(schedule, CodesToSearch(crop, crops, schedule.seed), batch)
        train_decoder(settings, model, pictures, self.folder / "decoder", self.report, progress)

    def train_postfilter(
        self,
        kernels: int,
        codes: CodesToSearch,
        start: Model | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> float:
        """Stage four: find post-filter kernels for the decoder of stage three, or else for that of a finished model.

        Returns the share by which the kernels reduce the squared error of the crops they were found on. Raises
        `UsageError`.
        """
        if not 1 <= kernels <= MAX_KERNELS:
            raise UsageError(f"--kernels {kernels}: a post-filter has 1 to {MAX_KERNELS} kernels")
        model = self._finished_model(start)
        if not model.config.vqvae.transform:
            raise UsageError("a model of the conv family has no code search and no post-filter; use another model")
        codes = replace(codes, crop=_whole_positions(codes.crop, model.config.vqvae.stride))
        pictures = load_pictures(self.data, codes.crop, augment=self.augment)
        training, _ = searched_codes(codes, model, pictures, self.folder / "decoder", share_of(progress, 0, 0.5))
        processes, share = Processes(), 0.0
        if processes.first:
            network, rest = self._with_trained_decoder(model), share_of(progress, 0.5, 1)
            found, share = solve_kernels(network, training, kernels, rest)
            folder = self.folder / "postfilter"
            folder.mkdir(exist_ok=True)
            save_file({"kernels": found}, folder / KERNELS)
        processes.wait()
        return share

    def export(self, out: Path, name: str | None = None, qualities: Sequence[int] | None = None) -> Model:
        """Write the finished model into `out`; `qualities`: which ones to keep (see `keep_qualities`), None for all.

        Raises `UsageError`, `ModelError` or `OutputError`.
        """
        from vqcodec.train.networks.pixelcnn import GatedPixelCNN

        config = self.config()
        if any((self.folder / end).exists() for end in (f"decoder/{CHECKPOINT}", f"postfilter/{KERNELS}")):
            model = open_model(self.folder / "model")
            network = self._with_postfilter(self._with_trained_decoder(model))
            config = replace(config, vqvae=network.config)
            integers = {name: torch.from_numpy(tensor) for name, tensor in model.prior_tensors.items()}
        else:
            prior = GatedPixelCNN(config.vqvae, config.prior)
            _load(prior, self.folder / "prior")
            network, integers = self.network(), prior.eval().integers()
        config = replace(config, name=name or config.name)
        if qualities is not None:
            config, network, integers = keep_qualities(config, network, integers, qualities)
        return save_model(out, config, network, integers)

    def export_networks(self, out: Path) -> None:
        """Write only networks and codebooks into `out`, from which another run can start."""
        save_network(out, self.config(), self.network())

    def config(self) -> ModelConfig:
        """The configuration of the run. Raises `UsageError` if there is no run yet."""
        path = self.folder / "config.json"
        if not path.is_file():
            raise UsageError(f"{self.folder} contains no training run; start with: vqcodec train vqvae")
        return from_json(ModelConfig, path.read_text(encoding="utf-8"))

    def network(self) -> VQVAE:
        """The autoencoder of stage one, with rarely used codes pruned, rounded to the precision of the files."""
        network = VQVAE(self.config().vqvae)
        _load(network, self.folder / "vqvae")
        network.quantizer.prune()
        round_weights(network)
        return network.eval()

    def _finished_model(self, start: Model | None) -> Model:
        """The model in RUN/model, whose decoder is trained: a copy of `start`, or the result of the first two stages.

        Creates it if it does not exist yet.
        """
        folder, processes = self.folder / "model", Processes()
        if start is not None:
            self._check_config(start.config)
        processes.wait()  # no process may create the model while another one still checks whether it exists
        if processes.first and not (folder / "config.json").exists():
            if start is None:
                self.export(folder)
            else:
                export_model(str(start.path), folder, force=False)
        processes.wait()
        model = open_model(folder)
        if start is not None and start.digest != model.digest:
            raise UsageError(
                f"{self.folder} trains the decoder of another model; give the same --init or another --run"
            )
        return model

    def _with_trained_decoder(self, model: Model) -> VQVAE:
        """The networks of a model, with the decoder of stage three if there is one, rounded as in the files."""
        network = open_network(model)
        if (self.folder / "decoder" / CHECKPOINT).exists():
            _load(network, self.folder / "decoder")
        round_weights(network)
        return network

    def _with_postfilter(self, network: VQVAE) -> VQVAE:
        """The networks with the kernels of stage four, if there are any."""
        path = self.folder / "postfilter" / KERNELS
        if not path.exists():
            return network
        try:
            kernels = load_file(path)["kernels"]
            filtered = VQVAE(replace(network.config, postfilter=len(kernels)))
            filtered.load_state_dict(network.state_dict() | {"postfilter.kernels": kernels})
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise ModelError(f"{path}: no kernels of a post-filter ({str(error).splitlines()[0]})") from None
        return filtered.eval()

    def _refuse_after_decoder(self) -> None:
        """Raise `UsageError` once stage three has begun: its codes depend on the results of the earlier stages."""
        if (self.folder / "model").exists():
            raise UsageError(f"{self.folder} has reached the decoder stage; give another --run folder")

    def _check_config(self, config: ModelConfig) -> None:
        """Store the configuration of a new run. Raises `UsageError` if an existing run has another one."""
        path, processes = self.folder / "config.json", Processes()
        processes.wait()  # no process may create the file while another one still checks whether it exists
        if processes.first and not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(to_json(config), encoding="utf-8")
        processes.wait()
        if self.config() != config:
            raise UsageError(f"{path} describes another model; give the same --config or another --run folder")


def read_config(path: Path) -> ModelConfig:
    """Read a configuration from a JSON file. Raises `UsageError` or `ModelError`."""
    try:
        return from_json(ModelConfig, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read the configuration ({error})") from None


def _whole_positions(crop: int, stride: int) -> int:
    """The side of crops in pixels, rounded down to a multiple of the stride. Raises `UsageError`."""
    if crop < 4 * stride:
        raise UsageError(f"--crop {crop}: crops must have at least {4 * stride} pixels for this model")
    return crop - crop % stride


def _initial_networks(folder: Path, config: ModelConfig) -> tuple[VQVAE, Sequence[Collection[int]]]:
    """The networks of the model in `folder` at the qualities of `config`, and the codebooks to initialise again.

    For each quality, these are the indices of the codebooks that are too fine for the new price of a bit.
    """
    before = read_config(folder / "config.json").vqvae
    rows = in_proportion(config.vqvae.qualities, before.qualities)
    network = at_qualities(load_network(folder, before), config.vqvae, rows)
    old, new = VectorQuantizer(before), VectorQuantizer(config.vqvae)
    risen = (new.lambdas[:, None] * new.shares) > MAX_PRICE_RISE * (old.lambdas[:, None] * old.shares)[rows]
    return network, [row.nonzero()[:, 0].tolist() for row in risen]


def _load(network: torch.nn.Module, folder: Path) -> None:
    """Load the network from the checkpoint of a stage. Raises `UsageError` or `ModelError`."""
    path = folder / "checkpoint.safetensors"
    if not path.is_file():
        raise UsageError(f"{path} is missing; train that stage first")
    try:
        tensors = load_file(path)
        prefix = "network."
        network.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path}: does not fit the run's configuration ({str(error).splitlines()[0]})") from None
