"""Payloads <-> the bytes of a .vq file: header, units, chunks, checksums. docs/format.md is the specification.

In: a `VqFile`. Out: its bytes, and back; damaged and hostile files are errors.
Read `container` first, then `header`. `chunks` lists the kinds of optional chunks, `magic` recognises a file, `rates`
turns sizes into bits per pixel.
"""
