"""XMP -> XMP that still holds for the picture it will lie in. Bytes in, bytes out; only the standard library.

XMP is RDF in XML. It is parsed and written anew, tag by tag, with its own prefixes. A DOCTYPE is refused, so there are
no entities to expand or to fetch. Left out are, wherever they stand and whether as element or as attribute:

- properties that tell a location, by their names and in every namespace, unless the location is asked for;
- what describes the samples of the old file (size, orientation, colour profile) and thumbnails of it;
- makers' notes, in which nobody can find what they hold, and the pointer to extended XMP, which is not kept;
- comments and processing instructions.
"""

from __future__ import annotations

import re
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

__all__ = ["rewrite"]

_PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n', '\n<?xpacket end="w"?>'
_GAP = "\f"  # between the parts of a name: it cannot stand in XML
_DEPTH = 200
_QUOTE = {'"': "&quot;"}  # so that no text looks like an attribute to readers that search for one
_TOO_LONG = "it is too long"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_ROOTS = frozenset({("adobe:ns:meta/", "xmpmeta"), (_RDF, "RDF")})
_DESCRIBES_THE_FILE = {
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
# In every namespace but RDF's (`Alt` is a list), for makers of drones, phones and programs have their own.
_LOCATION = re.compile(
    r"gps.*|.*(latitude|longt?itude|altitude|location|geotag|geohash|geoname).*|lat|long?|alt|coverage"
    r"|city|state|province(state)?|country(code|name)?|worldregion",
    re.IGNORECASE,
)
_OPAQUE = re.compile(r".*makernote.*", re.IGNORECASE)
_EXTENDED = "http://ns.adobe.com/xmp/note/", "HasExtendedXMP"


def rewrite(data: bytes, *, location: bool, limit: int) -> tuple[bytes, frozenset[str]]:
    """XMP in UTF-8 as a packet without padding, and what was lost: some of "location", "private" and "extended".

    Raises `ValueError` for what is not well-formed XMP in UTF-8 of at most `limit` bytes, and for any DOCTYPE.
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
    """Writes again what the parser reads, but for what is left out."""

    def __init__(self, location: bool) -> None:
        self.location = location
        self.pieces: list[str] = []
        self.lost: set[str] = set()
        self.open: list[str] = []  # names of the elements around this place; "" for one that is left out
        self.declared: list[str] = []  # namespaces, for the element that follows
        parser = self.parser = expat.ParserCreate("utf-8", _GAP)
        parser.namespace_prefixes = True
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self.doctype
        parser.StartNamespaceDeclHandler = self.declare
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.text

    def doctype(self, *_: object) -> None:
        raise ValueError("it has a DOCTYPE, which may hide anything")

    def declare(self, prefix: str | None, uri: str | None) -> None:
        self.declared.append(f" xmlns{':' + prefix if prefix else ''}={quoteattr(uri or '')}")

    def start(self, name: str, attributes: list[str]) -> None:
        space, local, written = _parts(name)
        declared, self.declared = self.declared, []
        if not self.open and (space, local) not in _ROOTS:
            raise ValueError("it is no XMP")
        if len(self.open) == _DEPTH:
            raise ValueError("it is nested too deep")
        if (self.open and not self.open[-1]) or self.unwanted(space, local):
            self.open.append("")
            return
        self.open.append(written)
        self.pieces += ["<", written, *declared]
        for attribute, value in zip(attributes[::2], attributes[1::2], strict=True):
            space, local, written = _parts(attribute)
            if not self.unwanted(space, local):
                self.pieces += [" ", written, "=", quoteattr(value, _QUOTE)]
        self.pieces.append(">")

    def end(self, _: str) -> None:
        written = self.open.pop()
        if written:
            self.pieces += ["</", written, ">"]

    def text(self, text: str) -> None:
        if self.open[-1]:
            self.pieces.append(escape(text, {"\r": "&#13;"} | _QUOTE))

    def unwanted(self, space: str, local: str) -> bool:
        # Readers such as Pillow turn a picture by the text tiff:Orientation, whatever namespace that stands for.
        if local == "Orientation" or local in _DESCRIBES_THE_FILE.get(space, ()):
            return True
        if (space, local) == _EXTENDED:
            self.lost.add("extended")
        elif _OPAQUE.fullmatch(local):
            self.lost.add("private")
        elif not self.location and space != _RDF and _LOCATION.fullmatch(local):
            self.lost.add("location")
        else:
            return False
        return True


def _parts(name: str) -> tuple[str, str, str]:
    """Namespace, local name, and the name as it is written."""
    parts = name.split(_GAP)
    if len(parts) == 1:
        return "", name, name
    return parts[0], parts[1], f"{parts[2]}:{parts[1]}" if len(parts) == 3 else parts[1]
