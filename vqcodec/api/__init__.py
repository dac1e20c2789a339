"""The Python interface: functions, a Pillow plugin for .vq files, and a model as a torch module.

In: PIL images, numpy arrays or torch tensors. Out: the bytes of .vq files. Decoding is the reverse.
Read `functions` first: it has `vqcodec.encode` and the other public functions. `registration` registers the plugin with
Pillow.
"""
