"""XMP -> sanitised XMP that is valid for the upright, re-encoded picture.

In: bytes. Out: bytes. Only the standard library is used.
XMP is RDF in XML. The module parses it and writes it again tag by tag, with the original prefixes. It rejects any
DOCTYPE, so there are no entities to expand or to fetch. It drops the following, at any depth and both as elements and
as attributes:

- properties whose names indicate a location, in every namespace, unless the caller asks for the location;
- properties that describe the samples of the old file (size, orientation, colour profile), and its thumbnails;
- properties that promise a film, a gain map or a depth map in the same file, which is not kept;
- maker notes, whose content is undocumented, and the reference to extended XMP, which is not kept;
- comments and processing instructions.
"""

from __future__ import annotations

import re
from types import ModuleType
from xml.parsers import expat

__all__ = ["rewrite"]

_PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n', '\n<?xpacket end="w"?>'
_SEPARATOR = "\f"  # separates the parts of a name; it is not a legal XML character
_MAX_DEPTH = 200
_QUOTE_ENTITY = {'"': "&quot;"}  # so that text cannot be mistaken for an attribute by readers that search the raw bytes
_TOO_LONG = "it is too long"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ROOTS = frozenset({("adobe:ns:meta/", "xmpmeta"), (_RDF, "RDF")})
_DESCRIBES_OLD_FILE = {
    "http://ns.adobe.com/tiff/1.0/": {
        "ImageWidth", "ImageLength", "BitsPerSample", "Compression", "PhotometricInterpretation",
        "SamplesPerPixel", "YCbCrSubSampling", "TransferFunction", "WhitePoint", "PrimaryChromaticities",
    },
    "http://ns.adobe.com/exif/1.0/": {
        "PixelXDimension", "PixelYDimension", "ColorSpace", "SubjectArea", "SubjectLocation",
    },
    "http://ns.adobe.com/photoshop/1.0/": {"ICCProfile", "ColorMode"},
    "http://ns.adobe.com/xap/1.0/": {"Thumbnails"},
}  # fmt: skip
# Checked in every namespace except RDF's, where `Alt` is a list: makers of drones, phones and programs have their own.
_LOCATION = re.compile(
    r"gps.*|.*(latitude|longt?itude|altitude|location|geotag|geohash|geoname).*|lat|long?|alt|coverage"
    r"|city|state|province(state)?|country(code|name)?|worldregion",
    re.IGNORECASE,
)
# Namespaces about what phones store beside the picture: motion photos, gain maps (HDR), depth maps, sounds.
_BESIDE = re.compile(
    r"http://ns\.google\.com/photos/(dd/)?1\.0/"
    r"(audio|camera|container|container/item|depthmap|device|earthpose|image|item|lightestimate|pointcloud|pose|profile)/"
    r"|http://ns\.adobe\.com/hdr-gain-map/1\.0/|http://ns\.apple\.com/(HDRGainMap|pixeldatainfo)/1\.0/"
)
_FILM = re.compile(r"(MotionPhoto|MicroVideo).*")  # in every namespace: other makers have their own
_MAKER_NOTES = re.compile(r".*makernote.*", re.IGNORECASE)
_EXTENDED = "http://ns.adobe.com/xmp/note/", "HasExtendedXMP"


def rewrite(data: bytes, *, location: bool, limit: int) -> tuple[bytes, frozenset[str]]:
    """Rewrite XMP as a packet in UTF-8 without padding.

    Returns the packet and what was dropped: a subset of "location", "private" (maker notes), "extended" and "beside"
    (properties about a film, gain map or depth map in the same file). Raises `ValueError` if the input is not
    well-formed XMP in UTF-8, has a DOCTYPE, is nested too deeply, or if it or the result is longer than `limit` bytes.
    """
    if len(data) > limit:
        raise ValueError(_TOO_LONG)
    writer = _Writer(location)
    try:
        writer.parser.Parse(data.decode("utf-8").lstrip("\ufeff \t\r\n").rstrip("\0"), True)
    except (UnicodeDecodeError, expat.ExpatError) as error:
        raise ValueError("it is damaged") from error
    rewritten = "".join((_PACKET[0], *writer.pieces, _PACKET[1])).encode()
    if len(rewritten) > limit:
        raise ValueError(_TOO_LONG)
    return rewritten, frozenset(writer.lost)


class _Writer:
    """Handles the parser's events: collects the output in `pieces`, and what was dropped in `lost`."""

    def __init__(self, location: bool) -> None:
        self.location = location
        self.pieces: list[str] = []
        self.lost: set[str] = set()
        self.open: list[str] = []  # names of the enclosing elements; "" for a dropped one
        self.declared: list[str] = []  # namespace declarations of the next element
        parser = self.parser = expat.ParserCreate("utf-8", _SEPARATOR)
        parser.namespace_prefixes = True
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self.doctype
        parser.StartNamespaceDeclHandler = self.declare
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.text

    def doctype(self, *_: object) -> None:
        raise ValueError("it has a DOCTYPE, which is not allowed")

    def declare(self, prefix: str | None, uri: str | None) -> None:
        if not _BESIDE.fullmatch(uri or ""):  # some readers look for its mere name
            self.declared.append(f" xmlns{':' + prefix if prefix else ''}={_saxutils().quoteattr(uri or '')}")

    def start(self, name: str, attributes: list[str]) -> None:
        space, local, written = _parts(name)
        declared, self.declared = self.declared, []
        if not self.open and (space, local) not in _ROOTS:
            raise ValueError("it is not XMP")
        if len(self.open) == _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if (self.open and not self.open[-1]) or self.unwanted(space, local):
            self.open.append("")
            return
        self.open.append(written)
        self.pieces += ["<", written, *declared]
        for attribute, value in zip(attributes[::2], attributes[1::2], strict=True):
            space, local, written = _parts(attribute)
            if not self.unwanted(space, local):
                self.pieces += [" ", written, "=", _saxutils().quoteattr(value, _QUOTE_ENTITY)]
        self.pieces.append(">")

    def end(self, _: str) -> None:
        written = self.open.pop()
        if written:
            self.pieces += ["</", written, ">"]

    def text(self, text: str) -> None:
        if self.open[-1]:
            self.pieces.append(_saxutils().escape(text, {"\r": "&#13;"} | _QUOTE_ENTITY))

    def unwanted(self, space: str, local: str) -> bool:
        """Whether to drop the property `local` of the namespace `space`; records the loss in `lost`."""
        # Readers such as Pillow rotate a picture by the text tiff:Orientation, whatever namespace that prefix has.
        if local == "Orientation" or local in _DESCRIBES_OLD_FILE.get(space, ()):
            return True
        if (space, local) == _EXTENDED:
            self.lost.add("extended")
        elif _MAKER_NOTES.fullmatch(local):
            self.lost.add("private")
        elif _BESIDE.fullmatch(space) or _FILM.fullmatch(local):
            self.lost.add("beside")
        elif not self.location and space != _RDF and _LOCATION.fullmatch(local):
            self.lost.add("location")
        else:
            return False
        return True


def _parts(name: str) -> tuple[str, str, str]:
    """Split expat's name into namespace, local name, and the name with its original prefix."""
    parts = name.split(_SEPARATOR)
    if len(parts) == 1:
        return "", name, name
    return parts[0], parts[1], f"{parts[2]}:{parts[1]}" if len(parts) == 3 else parts[1]


def _saxutils() -> ModuleType:
    """The module that escapes text. Imported late, since it loads modules for the web."""
    from xml.sax import saxutils

    return saxutils
