"""Pictures <-> codes, in floats (torch): encoder, vector quantiser, decoder, post-filter; and the prior in training.

In: pictures [B, 3, H, W]. Out: codes [B, G, h, w], and back.
Read `vqvae` first, then `quantizer`. `tiled` runs the networks over pictures of any size, `weights` loads and saves
them, `postfilter` corrects decoded pictures, `pixelcnn` is the float prior whose integers `coding` uses.
"""
