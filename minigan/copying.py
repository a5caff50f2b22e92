"""Copies: copy.deepcopy copies a network with everything that belongs to it; pickle refuses."""

from copy import deepcopy
from types import ModuleType
from typing import Any, NoReturn, SupportsIndex

from minigan.errors import ArrayTypeError


class Copyable:
    """Base of networks, optimizers, games. One deepcopy of several keeps how they refer to others:

    net, optimizer = copy.deepcopy((net, optimizer))
    """

    not_copied: tuple[str, ...] = ()  # attributes that a deep copy makes again when it needs them

    def __copy__(self) -> Any:
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        other = memo[id(self)] = object.__new__(type(self))
        copied = {name: value for name, value in vars(self).items() if name not in self.not_copied}
        memo.update({id(each): each for each in copied.values() if isinstance(each, ModuleType)})
        vars(other).update(deepcopy(copied, memo))
        return other

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise ArrayTypeError(
            f"{type(self).__name__} cannot be pickled, because reading a pickle can run any code: "
            "save arrays with minigan.data.files.npz.save_arrays(path, net.store.state()), or with "
            "the package safetensors; copy.deepcopy makes a copy in memory"
        )
