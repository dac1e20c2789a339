"""Learning: pictures -> a model, in four stages (networks, prior, decoder, post-filter).

In: folders or tar shards of pictures. Out: the folder of a run, and from it an exported model.
Read `project` first: the stages in order. `loop` is the one training loop, `decoder` the third stage, `distributed`
shares steps among processes, `events` writes logs for TensorBoard.
"""
