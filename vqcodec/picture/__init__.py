"""Picture files <-> `Picture`: 8-bit samples, alpha apart, and the metadata to keep.

In: whatever Pillow reads. Out: a `Picture`, and back into a picture file.
Read `picture` first, then `read` and `write`. `alpha` packs transparency, `metadata` cleans EXIF, XMP and profiles,
`metrics` compares pictures.
"""
