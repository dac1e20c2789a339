"""Picture files <-> `Picture`: 8-bit samples, a separate alpha channel, and metadata.

In: any picture that Pillow reads, with or without its optional `plugins`. Out: a `Picture`. The same in the other
direction. Read `picture` first, then `read` and `write`; `alone` reads for the commands, and makes notices of what
libraries print. Below `read`, `kinds` tells what a file is by its first bytes, `opened` opens each kind in its way,
and `appended`, `jxl`, `png_chunks` and `tiff` know a format each; `layers` tells what is kept of layers and frames.
`colours` converts samples of any mode, with `depth` for more than 8 bits; `png_colour` and `colour_space` do the
colour chunks of a PNG, and `hidden` the colours under full transparency. `alpha` packs the alpha channel, `lossless`
pixels without loss, `metadata` sanitises EXIF, XMP and colour profiles. `measures` compares two pictures by everything
that `metrics`, `ssimulacra2` and `butteraugli` measure.
"""
