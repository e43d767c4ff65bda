"""What `train` is made of, in the order of a run.

1. `job` settles a run before it starts; `trials` and `rate_finder` try steps of it beforehand.
2. `loop` carries it out, from the weights that `transfer` fits to the network, or resumed.
3. `pictures` gives the endless row of training pictures, and the loss on them.
4. `step` takes one step: `supervision`, `recompute` and `synchronise` serve its gradients,
   and `solver` moves the weights by them.
5. `records` writes what the run leaves behind: scores, checkpoints, log, curve, model card.
"""
