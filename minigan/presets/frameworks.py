"""Framework defaults: constants that a published program inherits unless it sets them.

                         Keras, TensorFlow 1                  PyTorch
BatchNorm running rate   0.01 ("momentum" 0.99)               0.1
BatchNorm eps            1e-3                                 1e-5
running variance         biased, 1/m                          unbiased, 1/(m-1)
weights                  Glorot, uniform                      set by each program: N(0, 0.02²)
Adam                     eps added to √v (eps_hat=True)       eps added to √v̂ (eps_hat=False)
reported loss            p clipped to [1e-7, 1 - 1e-7]        log p clipped at -100
odd pixel of "same"      after                                -

The DCGAN paper's program has PyTorch's Adam and these weights; its BatchNorm: radford.py.

minigan trains on logits, where nothing has to be clipped. The reported loss is computed on logits
clipped at the same place, so a run prints the same number as the published program.
"""

from math import log
from typing import Any

from minigan.initializers import normal
from minigan.layers import BatchNorm
from minigan.presets import Arguments

KERAS_ADAM: Arguments = dict(eps=1e-8, eps_hat=True)  # Keras up to 2.1, tf.train
TF_KERAS_ADAM: Arguments = dict(eps=1e-7, eps_hat=True)  # tf.keras
KERAS_LIMIT = log((1 - 1e-7) / 1e-7)  # logit of p = 1 - 1e-7: losses reach 16.118 and no more
# the step of every Keras DCGAN, up and down
SAME: Arguments = dict(kernel_size=5, stride=2, padding="same")


def keras_norm(momentum: float = 0.99) -> BatchNorm:
    """BatchNorm with Keras' constants; momentum as in Keras: the weight of the old value."""
    return BatchNorm(running_rate=round(1 - momentum, 10), eps=1e-3, unbiased=False)


TORCH_LIMIT = 100.0
# the paper's: BatchNorm follows, so a bias would do nothing
WEIGHTS: Arguments = dict(bias=False, initializer=normal(0.02))


def torch_norm(**options: Any) -> BatchNorm:
    """BatchNorm as in PyTorch's programs: gain from N(1, 0.02²)."""
    return BatchNorm(gain_initializer=normal(0.02, mean=1.0), **options)
