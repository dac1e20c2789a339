"""Picture files <-> `Picture`: 8-bit samples, a separate alpha channel, and metadata.

In: any picture that Pillow reads. Out: a `Picture`. The same in the other direction.
Read `picture` first, then `read` and `write`. `alpha` packs the alpha channel, `metadata` sanitises EXIF, XMP and
colour profiles, and `metrics` compares pictures.
"""
