"""The models of the table, in its order, with their titles and the pictures that they apply to."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.likelihood.conditional_vae import ConditionalVAE, ManifoldVAE
from benchmarks.likelihood.data import Dataset
from benchmarks.likelihood.density import Density
from benchmarks.likelihood.glow import Glow
from benchmarks.likelihood.pixelcnn import PixelCNN
from benchmarks.likelihood.vae import VAE, GaussianVAE
from benchmarks.likelihood.vimco import VIMCO
from benchmarks.likelihood.vqvae import VQVAEDensity


@dataclass(frozen=True)
class Entry:
    """A model of the table."""

    title: str
    kind: type[Density]
    grey_only: bool = False
    labelled: bool = False

    def suits(self, dataset: Dataset) -> bool:
        """Whether the model applies to these pictures."""
        grey, labels = dataset.train.channels == 1, int(dataset.train.labels.min()) >= 0
        return (grey or not self.grey_only) and (labels or not self.labelled)


MODELS = {
    "vae": Entry("VAE", VAE),
    "gaussian-vae": Entry("VAE, Gaussian pixels, σ² = 0.01", GaussianVAE, grey_only=True),
    "conditional-vae": Entry("conditional VAE, given the label", ConditionalVAE, grey_only=True, labelled=True),
    "manifold-vae": Entry("conditional VAE with two latents", ManifoldVAE, grey_only=True, labelled=True),
    "vimco": Entry("VIMCO", VIMCO),
    "vqvae": Entry("VQ-VAE", VQVAEDensity),
    "glow": Entry("Glow", Glow),
    "pixelcnn": Entry("PixelCNN on pixels", PixelCNN),
}
# Figures for the whole of CIFAR-10. VAE, VIMCO and VQ-VAE: van den Oord et al. 2017, section 4.1. Glow: Kingma &
# Dhariwal 2018, table 2. Gated PixelCNN: van den Oord et al. 2016, table 1.
PUBLISHED = {
    ("CIFAR-10", "vae", "ELBO"): 4.51,
    ("CIFAR-10", "vimco", "64 samples"): 5.14,
    ("CIFAR-10", "vqvae", "uniform prior"): 4.67,
    ("CIFAR-10", "glow", "exact"): 3.35,
    ("CIFAR-10", "pixelcnn", "exact"): 3.03,
}
