"""Training: pictures -> a model, in four stages.

In: folders or tar shards of pictures. Out: the folder of a run, and from it an exported model.

Start with `project`, which runs the stages in order: `vqvae` (networks and codebooks), `prior`, `decoder` and
`postfilter_kernels`. `loop` is the training loop that the gradient-trained stages share. `distributed` splits steps
among processes, and `events` writes logs for TensorBoard. `networks/vqvae` is the autoencoder that is trained, and
`networks/weights` loads and saves it. All of it needs torch, and `requirement` says so where torch is missing.
"""
