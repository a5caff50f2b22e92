"""Everything that has a compiled version, besides the faster versions in ../table.py.

batchnorm_*, activations    blocks.py: the loops of a block
"""

from minigan.arrays.backend import Operations
from minigan.backends.cpu import table
from minigan.backends.cpu.blocks import Block, NormBlock
from minigan.backends.cpu.compiled.blocks import CompiledBlock, CompiledNormBlock

OPERATIONS: Operations = {
    **table.OPERATIONS,
    Block: CompiledBlock,  # blocks.plan asks for it
    NormBlock: CompiledNormBlock,
}
