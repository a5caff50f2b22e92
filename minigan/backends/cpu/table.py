"""Every operation for which the CPU backend has a faster version, and where that version is.

    conv2d_*, conv_transpose2d_*, linear_*    convolution.py: chunks, threads; im2col.py,
                                              gathering.py or winograd.py multiply a chunk
    batchnorm_*                               blocks.py
    tanh_*, sigmoid_*, relu_*, leaky_relu_*   activations.py, called by blocks.py
    append_labels_*, dropout_*, upsample_*    ../steps.py; upsample_* before a conv2d_*:
                                              ../upsampled.py
    spectral_norm_*                           ../steps.py

These stand in for whole runs of layers, through `plan`. The rest replaces one function each.
"""

from minigan import averaging, losses, objective, optimizers, r1
from minigan.arrays import Backend
from minigan.arrays.backend import Operations
from minigan.backends.cpu import blocks, parallel_step
from minigan.backends.cpu import losses as fast_losses
from minigan.backends.cpu import optimizers as fast_optimizers
from minigan.backends.steps import chosen_rows
from minigan.layers import sequential

OPERATIONS: Operations = {
    sequential.plan: blocks.plan,  # in a captured step: trace.plan
    Backend.capture: parallel_step.capture,
    losses.mean_bce: fast_losses.over_processes(losses.mean_bce),
    objective.mean_least_squares: fast_losses.over_processes(objective.mean_least_squares),
    objective.mean_hinge: fast_losses.over_processes(objective.mean_hinge),
    objective.mean_negative: fast_losses.over_processes(objective.mean_negative),
    r1.chosen_rows: chosen_rows,
    losses.mean_sigmoid: fast_losses.mean_sigmoid,
    optimizers.Adam.apply: fast_optimizers.adam,
    optimizers.RMSprop.apply: fast_optimizers.rmsprop,
    optimizers.SGD.apply: fast_optimizers.sgd,
    averaging.ema_update: fast_optimizers.ema_update,
}
