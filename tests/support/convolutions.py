"""Random convolutions, and what minigan, the naive loops and PyTorch make of one."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import minigan as mg
from tests.support import reference
from tests.support.networks import assert_close
from tests.support.torch_or_skip import import_torch


@dataclass(frozen=True)
class Case:
    """A convolution, or a transposed one, and the sizes of what it convolves."""

    image: tuple[int, int]
    kernel: Any  # a number, or (vertical, horizontal)
    stride: Any
    padding: Any
    extra: Any = 0  # output_padding
    n: int = 2
    c_in: int = 2
    c_out: int = 2
    bias: bool = True
    transposed: bool = False

    def layer(self):
        options = dict(stride=self.stride, padding=self.padding, bias=self.bias)
        if self.transposed:
            return mg.ConvTranspose2d(self.c_out, self.kernel, output_padding=self.extra, **options)
        return mg.Conv2d(self.c_out, self.kernel, **options)

    @property
    def in_shape(self):
        return (*self.image, self.c_in)

    def geometry(self):
        """-> ((top, bottom), (left, right)), (h_out, w_out), by reference.py."""
        kernel, stride = reference.pair(self.kernel), reference.pair(self.stride)
        if self.transposed:
            return reference.conv_transpose2d_geometry(
                self.image, kernel, stride, self.padding, self.extra
            )
        return reference.conv2d_geometry(self.image, kernel, stride, self.padding)

    def fits(self):
        pads, out = self.geometry()
        kernel = reference.pair(self.kernel)
        sizes = [s + sum(p) for s, p in zip(self.image, pads, strict=True)]
        return min(out) >= 1 and (
            self.transposed or all(s >= k for s, k in zip(sizes, kernel, strict=True))
        )


def random_cases(count, transposed, seed, image_top=8, channels_top=4):
    """-> Cases with every form of padding; one in three has square kernels and strides."""
    rng, cases = np.random.default_rng(seed), []
    while len(cases) < count:
        image, kernel, stride = (
            tuple(map(int, rng.integers(1, top, 2))) for top in (image_top, 6, 4)
        )
        k_h, k_w = kernel
        padding = (
            "valid",
            "same",
            int(rng.integers(0, min(kernel))),
            (
                (int(rng.integers(0, k_h)), int(rng.integers(0, k_h))),
                (int(rng.integers(0, k_w)), int(rng.integers(0, k_w))),
            ),
        )[rng.integers(4)]
        if rng.integers(3) == 0 and not isinstance(padding, tuple):
            padding = padding if isinstance(padding, str) else min(padding, kernel[0] - 1)
            kernel, stride = kernel[0], stride[0]
        extra: Any = 0
        if transposed and padding != "same":
            extra = tuple(int(rng.integers(0, s)) for s in reference.pair(stride))
        n, c_in, c_out = (int(v) for v in rng.integers(1, channels_top, 3))
        case = Case(
            image, kernel, stride, padding, extra, n, c_in, c_out, bool(rng.integers(4)), transposed
        )
        if case.fits():
            cases.append(case)
    return cases


def numbers_for(case, seed=1):
    """-> x, W, b (None without a bias), dy"""
    rng = np.random.default_rng(seed)
    channels = (case.c_out, case.c_in) if case.transposed else (case.c_in, case.c_out)
    W = rng.standard_normal((*reference.pair(case.kernel), *channels))
    b = rng.standard_normal(case.c_out) if case.bias else None
    dy = rng.standard_normal((case.n, *case.geometry()[1], case.c_out))
    return rng.standard_normal((case.n, *case.in_shape)), W, b, dy


def by_minigan(case, backend):
    """-> {"y", "dx", "dW", "db"} on the host, db without a bias left out."""
    x, W, b, dy = numbers_for(case)
    net = mg.Sequential([case.layer()], name="N")
    net.setup(case.in_shape, backend=backend, rng=np.random.default_rng(0))
    for name, value in {"0.W": W, "0.b": b}.items():
        assert (name in net.params) == (value is not None)
        if value is not None:
            net.params[name][...] = backend.asarray(value)
    y = net.forward(backend.asarray(x))
    found = {"y": y, "dx": net.backward(backend.asarray(dy))}
    found |= {f"d{name[2:]}": gradient for name, gradient in net.grads.items()}
    return {name: backend.to_host(array) for name, array in found.items()}


def by_loops(case):
    """The same, by reference.py."""
    x, W, b, dy = numbers_for(case)
    stride, padding = reference.pair(case.stride), case.padding
    if case.transposed:
        y = reference.conv_transpose2d_forward(x, W, b, stride, padding, case.extra)
        gradients = reference.conv_transpose2d_backward(dy, x, W, stride, padding, case.extra)
    else:
        y = reference.conv2d_forward(x, W, b, stride, padding)
        gradients = reference.conv2d_backward(dy, x, W, stride, padding)
    found = {"y": y, **dict(zip(("dx", "dW", "db"), gradients, strict=True))}
    return found if case.bias else {name: found[name] for name in ("y", "dx", "dW")}


def by_torch(case):
    """The same, by PyTorch: its own options where it has them, else padded or cropped by hand."""
    torch = import_torch()
    F = torch.nn.functional
    x, W, b, dy = numbers_for(case)
    x, dy = (torch.tensor(a.transpose(0, 3, 1, 2).copy()) for a in (x, dy))
    W = torch.tensor(W.transpose(3, 2, 0, 1).copy())
    leaves = [x, W] if b is None else [x, W, torch.tensor(b)]
    for leaf in leaves:
        leaf.requires_grad_()
    b = None if b is None else leaves[2]
    ((top, bottom), (left, right)), (h, w) = case.geometry()
    own = isinstance(case.padding, int)
    if case.transposed and own:
        options = dict(padding=case.padding, output_padding=case.extra)
        y = F.conv_transpose2d(x, W, b, stride=case.stride, **options)
    elif case.transposed:
        full = F.conv_transpose2d(x, W, stride=case.stride)
        y = F.pad(full, (-left, w + left - full.shape[3], -top, h + top - full.shape[2]))
        y = y if b is None else y + b[:, None, None]
    elif own:
        y = F.conv2d(x, W, b, stride=case.stride, padding=case.padding)
    else:
        y = F.conv2d(F.pad(x, (left, right, top, bottom)), W, b, stride=case.stride)
    y.backward(dy)

    def channels_last(tensor):
        return tensor.detach().numpy().transpose(0, 2, 3, 1)

    found = {"y": channels_last(y), "dx": channels_last(x.grad)}
    found["dW"] = W.grad.numpy().transpose(2, 3, 1, 0)
    return found if b is None else {**found, "db": b.grad.numpy()}


def assert_agree(found, expected, case, rtol=1e-10):
    """Two of the results above are the same to rounding."""
    assert found.keys() == expected.keys(), case
    for name, array in expected.items():
        assert_close(found[name], array, f"{name} of {case}", rtol)
