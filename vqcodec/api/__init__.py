"""The Python interface: functions, `.vq` as a format of Pillow, and a model as a torch module.

In: PIL images, numpy arrays, torch tensors, or the bytes of .vq files. Out: the other one.
Read `functions` first: `vqcodec.encode` and its siblings. `registration` registers the format with Pillow.
"""
