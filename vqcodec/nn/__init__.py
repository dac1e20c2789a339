"""Neural networks (torch, floats): pictures <-> codes, and the prior in its trainable form.

In: pictures [B, 3, H, W]. Out: codes [B, G, h, w], and back.

Read `vqvae` (encoder and decoder) first, then `quantizer` (choice of codes) and `codebooks` (their vectors and
statistics). `tiled` runs the networks on pictures of any size, `weights` loads and saves them, `postfilter` corrects
decoded pictures, `distortion` is what training minimises, `precision` decides where bf16 is used. `pixelcnn` is the
float prior, from which the integer prior of `coding` is exported.
"""
