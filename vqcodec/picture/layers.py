"""Notices about pictures with several layers, frames or pages, of which a .vq file holds one.

In: an image of Pillow that is not loaded yet. Out: notices. What Pillow gives of a Photoshop file is not a layer: it is
the merged picture of all layers, which the file holds beside them.
"""

from __future__ import annotations

from PIL import Image

__all__ = ["layers_and_frames"]

_PSD_MERGED = 1  # what `tell` says of the merged picture of a PSD
_PSD_VERSION = 1057  # resource of a PSD: 4 bytes version, 1 byte whether the file holds the merged picture
_TIFF_LAYERS = 37724  # tag of a TIFF: layers of Photoshop, beside the merged picture


def layers_and_frames(image: Image.Image) -> list[str]:
    """What of the layers, frames or pages of an image is kept; nothing if there is only one, or if it was loaded."""
    # Some of Pillow's readers count frames by seeking, which would discard changes made to a loaded image.
    unloaded = getattr(image, "tile", ()) or "is_animated" in vars(image)
    several = unloaded and getattr(image, "is_animated", False)
    if image.format == "PSD":
        return [_of_psd(image)] if several else []
    notices = []
    if several:
        which = "main" if image.format == "HEIF" else "current" if image.tell() else "first"
        notices.append(f"several frames or pages: only the {which} one is kept")
    if unloaded and image.format == "TIFF" and _TIFF_LAYERS in getattr(image, "tag_v2", ()):
        notices.append("the layers were flattened")
    return notices


def _of_psd(image: Image.Image) -> str:
    if image.tell() != _PSD_MERGED:
        return "several layers: only the current one is kept"
    for number, _, data in getattr(image, "resources", ()):
        if number == _PSD_VERSION and data[4:5] == b"\0":
            return "the file has no merged picture of its layers, so the result may be blank; save it with one"
    return "the layers were flattened"
