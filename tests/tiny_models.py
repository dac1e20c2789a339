"""Writes the models of tests/data/models anew: python tests/tiny_models.py. This needs torch; their use does not.

Tests compress and decompress with these models of random weights. They change only if `build_model` does.
"""

from __future__ import annotations

import shutil

from conftest import STORED, TINY, build_model

if __name__ == "__main__":
    shutil.rmtree(STORED, ignore_errors=True)
    for name, config in TINY.items():
        build_model(config, STORED / name)
