"""The integer arithmetic of the prior, in numbers: what training and inference must agree on to the bit.

A real value is an integer times 2^-exponent. Changing anything here changes the meaning of every file.
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
GATE_EXPONENT = 6  # inputs and product of the gates: steps of 1/64
GATE_MAX = 1 << GATE_EXPONENT  # 1.0
LOGIT_EXPONENT = 4  # logits: steps of 1/16 nat
# Counts of a cell's codes sum to less than 2^22 plus one per code. constriction scales them to 2^24 in float32, whose
# rounding could leave nothing for the last code if the sum came closer to 2^24.
COUNT_BITS = 22
SUM_BOUND = 1 << 24  # below it, float32 adds integers exactly, in any order

# Neighbours (rows, columns) of a cell that come before it both in reading order and in the wavefront (j + 2i smaller).
#
#     .  a  a  a  a        a: seen by the entry, which must not see the cell itself
#     a  b  b  b  .        b: seen by the entry and by every block
#     a  b  X              X: the cell; the blocks see its own features, which do not depend on its code
#
ENTRY_TAPS = ((0, -1), (0, -2), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-2, -1), (-2, 0), (-2, 1), (-2, 2))
BLOCK_TAPS = ((0, 0), (0, -1), (-1, -1), (-1, 0), (-1, 1))
