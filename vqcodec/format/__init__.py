"""Payloads <-> the bytes of a .vq file: header, units, chunks, checksums. docs/format.md is the specification.

In: a `VqFile`. Out: the bytes of a file. The same in the other direction; damaged and hostile files raise `BadFile`.
Read `container` first, then `header`. `chunks` defines the types of optional chunks, `magic` recognises .vq files, and
`rates` converts file sizes to bits per pixel.
"""
