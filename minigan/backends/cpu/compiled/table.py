"""Everything that has a compiled version.

    batchnorm_*, activations        blocks.py: the loops of a block
    conv2d_*, conv_transpose2d_*    direct.py, which ../convolution.py chooses by the shape
    Adam                            optimizers.py
    winograd.py's tiles             winograd.py

The rest is as in ../table.py.
"""

from minigan import optimizers
from minigan.arrays.backend import Operations
from minigan.backends.cpu import table, winograd
from minigan.backends.cpu.blocks import Block, NormBlock
from minigan.backends.cpu.compiled import winograd as compiled_winograd
from minigan.backends.cpu.compiled.blocks import CompiledBlock, CompiledNormBlock
from minigan.backends.cpu.compiled.optimizers import adam

OPERATIONS: Operations = {
    **table.OPERATIONS,
    Block: CompiledBlock,  # blocks.plan asks for it
    NormBlock: CompiledNormBlock,
    optimizers.Adam.apply: adam,
    winograd.to_domain: compiled_winograd.to_domain,
    winograd.from_domain: compiled_winograd.from_domain,
}
