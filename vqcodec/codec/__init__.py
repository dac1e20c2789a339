"""The codec: picture -> codes -> payloads -> file, and back; and every operation on codes.

In: a `Picture` and a `Model`. Out: the bytes of a .vq file, and back.
Start with `codec`: `Codec.compress` and `Codec.decompress`. The other modules:

- `encode_options`: the encoder options that the command line and the Python functions share.
- `content`: the codes and the stored pixels of a picture <-> the payloads of units.
- `stored`: the encoder's choice of the blocks that are stored without loss.
- `code_search`: the encoder's search for codes with a better rate-distortion trade-off.
- `fit_postfilter`: the weights of the post-filter for one picture.
- `encoded`: what an encoder returns: the file, the quality that it reached, notices.
- `judge`: the notice that a picture came out much worse than photographs do.
- `rate_control`: compression to a target size, SSIMULACRA2 or PSNR.
- `partial`: decoding of a region, or of a damaged file.
- `describe`: the header of a file.
- `sampling`: new codes drawn from the prior.
- `tokens`: export and import of codes as data.
- `code_prices`: the cost of each code in bits.
"""
