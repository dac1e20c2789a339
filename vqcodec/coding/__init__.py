"""Entropy coding: codes <-> payloads, with an integer prior and a range coder.

In: codes [G, h, w] of a unit of coding, and the integer tensors of a prior. Out: the payload of the unit. The same in
the other direction. All arithmetic is exact, so the results are identical on every machine.
Read `payloads` first, then `wavefront` (the coding order) and `integer_prior` (codes -> counts). `native` does the same
in C, where it was built; numpy is the specification. `formats` defines the number formats, and `filter_weights` packs
the weights of the post-filter.
"""
