"""The whole path: picture -> codes -> payloads -> file, and back; and everything that works on codes.

In: a `Picture` and a `Model`. Out: the bytes of a .vq file, and back.
Read `codec` first: `Codec.compress` and `Codec.decompress`. `encode_options` is what both
the command line and the Python functions ask for, `rate_control` compresses to a target size or quality,
`partial` decodes a region or a damaged file, `describe` reads headers, `sampling` draws new codes from the prior,
`tokens` exports codes as data, `code_prices` gives the bits of each code.
"""
