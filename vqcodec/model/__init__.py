"""Named models: configuration, files and digest. The models that ship with the package are in `bundled/`.

In: a name, a folder or a digest. Out: a `Model`.
Read `store` first. `config` defines the configuration of a model.
"""
