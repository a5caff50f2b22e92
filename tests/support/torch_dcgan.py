"""PyTorch's DCGAN as its programs build it: the names of its weights are what is imported."""

from itertools import pairwise


def make_nets(torch, width, z_dim, channels, last_stride=1):
    """-> G, D with random weights, gains and running statistics; a weight is "main.0.weight"."""
    nn = torch.nn

    def up(a, b, stride=2, padding=1):
        return nn.ConvTranspose2d(a, b, 4, stride, padding, bias=False)

    def down(a, b, stride=2, padding=1):
        return nn.Conv2d(a, b, 4, stride, padding, bias=False)

    sizes = [8 * width, 4 * width, 2 * width, width]
    of_g = [up(z_dim, sizes[0], 1, 0), nn.BatchNorm2d(sizes[0]), nn.ReLU()]
    of_d = [down(channels, width), nn.LeakyReLU(0.2)]
    for a, b in pairwise(sizes):
        of_g += [up(a, b), nn.BatchNorm2d(b), nn.ReLU()]
    for a, b in pairwise(sizes[::-1]):
        of_d += [down(a, b), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
    of_g += [up(width, channels), nn.Tanh()]
    of_d += [down(sizes[0], 1, last_stride, 0), nn.Flatten()]
    nets = [make_net(torch, layers) for layers in (of_g, of_d)]
    torch.manual_seed(0)
    for net in nets:
        for name, array in net.state_dict().items():
            if array.ndim == 1:
                low = 0.5 if name.endswith(("running_var", "weight")) else -0.5
                array.uniform_(low, low + 1)
    return nets


def make_net(torch, layers):
    """-> torch.nn.Module with the layers in `main`."""
    net = torch.nn.Module()
    net.main = torch.nn.Sequential(*layers)
    net.forward = net.main.forward
    return net
