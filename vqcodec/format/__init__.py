"""Payloads <-> the bytes of a .vq file: header, units, chunks, checksums. docs/format.md is the specification.

In: a `VqFile`. Out: the bytes of a file. The same in the other direction; damaged and hostile files raise `BadFile`.
Read `container` first, then `header`. `units` defines the payload of a unit that may hold pixels without loss, `chunks`
the types of optional chunks, and `varint` the numbers of variable length. `magic` recognises .vq files, and `rates`
converts file sizes to bits per pixel.
"""
