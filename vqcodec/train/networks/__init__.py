"""The networks in the form that is trained (torch): pictures <-> codes, and the prior in floats.

In: pictures [B, 3, H, W]. Out: codes [B, G, h, w], and back, with gradients.

Read `vqvae` (encoder and decoder) first, then `quantizer` (choice of codes) and `codebooks` (their vectors and
statistics). `weights` loads and saves them, `postfilter` corrects decoded pictures, `distortion` is what training
minimises, `precision` decides where bf16 is used. `pixelcnn` is the float prior, from which the integer prior of
`coding` is exported. `vqcodec.nn` runs the same networks without torch, from the same files.
"""
