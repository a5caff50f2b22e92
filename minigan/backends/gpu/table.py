"""Every operation for which the GPU backend has a faster version, and where that version is.

    conv2d_*, conv_transpose2d_*, linear_*    convolution.py, gemm.py, kernels.cu; on request
                                              implicit.py, implicit.cu
    batchnorm_*                               batchnorm.py, kernels.cu
    tanh_*, sigmoid_*, relu_*, leaky_relu_*   kernels.cu, called by blocks.py and convolution.py
    append_labels_*, dropout_*, upsample_*    ../steps.py; upsample_* before a conv2d_*:
                                              ../upsampled.py
    spectral_norm_*                           ../steps.py

These stand in for whole runs of layers, through `plan`. The rest replaces one function each.
"""

from minigan import averaging, gan, losses, objective, optimizers, r1
from minigan.arrays import Backend
from minigan.arrays.backend import Operations
from minigan.backends.gpu import blocks, graph, joined_update, reductions, step_state
from minigan.backends.gpu import losses as fast_losses
from minigan.backends.gpu import r1 as fast_r1
from minigan.backends.steps import chosen_rows
from minigan.layers import sequential

OPERATIONS: Operations = {
    sequential.plan: blocks.plan,
    Backend.capture: graph.capture,
    gan.update_discriminator: joined_update.update_discriminator,
    losses.mean_bce: fast_losses.mean_bce,
    objective.mean_least_squares: fast_losses.mean_least_squares,
    objective.mean_hinge: fast_losses.mean_hinge,
    objective.mean_negative: fast_losses.mean_negative,
    losses.mean_sigmoid: fast_losses.mean_sigmoid,
    r1.add_r1: fast_r1.add_r1,
    r1.chosen_rows: chosen_rows,
    optimizers.l2_norm: reductions.l2_norm,
    optimizers.Adam.apply: step_state.adam,
    averaging.ema_update: step_state.ema_update,
}
