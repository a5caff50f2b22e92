"""PyTorch on a GPU, at both extremes: the step as one CUDA graph, and its own DCGAN example."""

from benchmarks.contenders.torch_step import Step, nn, torch, use_gpu

WARM_UP = 3  # steps before the capture: cuDNN chooses algorithms, the allocator gets its memory


def capture(step):
    """-> function that repeats on the device what `step` did; and step's result, written again."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        result = step()
    return graph.replay, result


class Graph(Step):
    """Both updates with their optimizers in one graph, then the next z, in memory that stays."""

    def __init__(self, *arguments, precision="fp32", **options):
        use_gpu(precision)
        super().__init__(*arguments, precision=precision, adam={"capturable": True}, **options)
        self.z = torch.empty((self.nets.batch, self.nets.z_dim), device=self.device)
        self.fill_z()
        kept = [
            (tensor, tensor.detach().clone())
            for net in (self.G, self.D)
            for tensor in (*net.parameters(), *net.buffers())
        ]
        self.replay, self.result = capture(self.step)
        with torch.no_grad():  # as if nothing had been played yet
            for tensor, value in kept:
                tensor.copy_(value)
            for optimizer in (self.optimizer_g, self.optimizer_d):
                for state in optimizer.state.values():
                    for tensor in state.values():
                        tensor.zero_()

    def step(self):
        losses = super().play(self.z)
        self.fill_z()
        return losses

    def fill_z(self):
        self.z.normal_() if self.nets.z == "normal" else self.z.uniform_(-1, 1)

    def upload(self, z):
        return self.z.copy_(torch.from_numpy(z))

    def draw(self):
        return self.z  # the step itself has drawn it

    def play(self, z):
        self.replay()
        return self.result


class Example(Step):
    """As published: eager, channels first, Adam by default, probabilities and their losses apart.

    It also computes D's gradients in G's update, and reads five numbers in every step, each of
    which waits for the GPU.
    Source: github.com/pytorch/examples, dcgan/main.py
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, channels_last=False, adam={"fused": None}, **options)
        self.criterion = nn.BCELoss()

    def play(self, z):
        target = torch.full((self.nets.batch, 1), 1.0, device=self.device)

        def backward(images):
            p = torch.sigmoid(self.D(images))
            loss = self.criterion(p, target)
            loss.backward()
            return loss, p.mean().item()

        self.D.zero_grad()
        loss_d_real, d_x = backward(self.images)
        fakes = self.G(z)
        target.fill_(0.0)
        loss_d_fake, d_gz_before = backward(fakes.detach())
        loss_d = loss_d_real + loss_d_fake
        self.optimizer_d.step()
        self.G.zero_grad()
        target.fill_(1.0)
        loss_g, d_gz_after = backward(fakes)
        self.optimizer_g.step()
        self.report = loss_d.item(), loss_g.item(), d_x, d_gz_before, d_gz_after
        return loss_d_real.detach(), loss_d_fake.detach(), loss_g.detach()
