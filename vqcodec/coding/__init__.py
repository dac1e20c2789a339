"""Codes <-> payloads, in integers: the prior and the range coder. Nothing here is rounded, so all machines agree.

In: codes [G, h, w] of a unit of coding and the integers of a prior. Out: its payload, and back.
Read `rangecoder` first, then `wavefront` (the order of coding) and `integer_prior` (codes -> counts). `formats` holds
the number formats, `filter_weights` packs the weights of the post-filter.
"""
