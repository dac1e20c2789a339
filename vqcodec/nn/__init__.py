"""The networks in numpy: pictures <-> codes, in float32.

In: pixels [H, W, 3], uint8. Out: codes [G, h, w], h = ceil(H / stride), and back.

Start with `tiled`, which runs the networks on pictures of any size, then `networks`: encoder, `quantizer`, decoder and
`postfilter` of a model. `weights` loads them. `layers` says how a convolution is computed, `trunk` what encoder and
decoder share, `fold` what becomes of the stored weights; `native` does the same in C, where it was built. `distortion`
is what the encoder's search minimises. The same networks are trained in `train/networks`, with torch, from the same
files.
"""
