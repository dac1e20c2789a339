"""Named models: configuration, files and digest of each. The weights that ship are in `bundled/`.

In: a name, a folder or a digest. Out: a `Model`.
Read `store` first; `config` describes what a model is made of.
"""
