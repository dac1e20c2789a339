"""Number formats and neighbourhoods of the integer prior. Training and inference must agree on them exactly.

A real value is an integer times 2^-exponent. These constants are part of the file format: changing one makes existing
files undecodable.
"""

from __future__ import annotations

__all__ = [
    "BLOCK_TAPS",
    "COUNT_BITS",
    "ENTRY_TAPS",
    "GATE_EXPONENT",
    "GATE_MAX",
    "LOGIT_EXPONENT",
    "SUM_BOUND",
    "TRUNK_EXPONENT",
    "WEIGHT_MAX",
]

WEIGHT_MAX = 127  # largest magnitude of weights and activations
TRUNK_EXPONENT = 5  # embeddings, trunk, state and hidden units: steps of 1/32
GATE_EXPONENT = 6  # gate inputs and gate products: steps of 1/64
GATE_MAX = 1 << GATE_EXPONENT  # represents 1.0
LOGIT_EXPONENT = 4  # logits: steps of 1/16 nat
# The counts of a cell sum to less than 2^22 plus one per code. constriction scales them to 2^24 in float32. If the sum
# were closer to 2^24, float32 rounding could leave no probability for the last code.
COUNT_BITS = 22
SUM_BOUND = 1 << 24  # below this, float32 adds integers exactly, in any order

# Offsets (rows, columns) of the neighbours of a cell. All come before it in raster order and in the wavefront (smaller
# j + 2i).
#
#     .  a  a  a  a        a: input of the entry, which must exclude the cell itself
#     a  b  b  b  .        b: input of the entry and of every block
#     a  b  X              X: the cell; the blocks also use its own features, which do not depend on its code
#
ENTRY_TAPS = ((0, -1), (0, -2), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-2, -1), (-2, 0), (-2, 1), (-2, 2))
BLOCK_TAPS = ((0, 0), (0, -1), (-1, -1), (-1, 0), (-1, 1))
