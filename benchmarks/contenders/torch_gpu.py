"""PyTorch on a GPU, at its two ends: the whole step as one CUDA graph, and as its own DCGAN example is written."""

from benchmarks.contenders.torch_step import Step, nn, torch, use_gpu

WARM_UP = 3  # steps before the capture: cuDNN chooses its algorithms, the allocator gets its memory


def capture(step):
    """-> function that does on the device again what `step` did, and what `step` gave, which is written anew each time."""
    graph = torch.cuda.CUDAGraph()
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    with torch.cuda.graph(graph):
        given = step()
    return graph.replay, given


class Graph(Step):
    """Both updates with their optimizers in one graph, and after them the next z, in memory of its own."""

    def __init__(self, *arguments, precision="fp32", **options):
        use_gpu(precision)
        super().__init__(*arguments, precision=precision, adam={"capturable": True}, **options)
        self.z = torch.empty((self.nets.batch, self.nets.z_dim), device=self.device)
        self.draw()
        kept = [
            (tensor, tensor.detach().clone())
            for net in (self.G, self.D)
            for tensor in (*net.parameters(), *net.buffers())
        ]
        self.replay, self.given = capture(self.step)
        with torch.no_grad():  # as if nothing had been played yet
            for tensor, value in kept:
                tensor.copy_(value)
            for optimizer in (self.optimizer_g, self.optimizer_d):
                for state in optimizer.state.values():
                    for tensor in state.values():
                        tensor.zero_()

    def step(self):
        losses = super().play(self.z)
        self.draw()
        return losses

    def draw(self):
        return self.z.normal_() if self.nets.z == "normal" else self.z.uniform_(-1, 1)

    def play(self, z):
        self.z.copy_(z)
        self.replay()
        return self.given

    def launch(self, times):
        for _ in range(times):
            self.replay()


class Example(Step):
    """Eager and channels first; Adam as it comes; probabilities and their losses apart; D's gradients computed in G's update, too;
    five numbers read in every step, each of which waits for the GPU.

    Source: github.com/pytorch/examples, dcgan/main.py
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, channels_last=False, adam={"fused": None}, **options)
        self.criterion = nn.BCELoss()

    def play(self, z):
        n, read = self.nets.batch, []
        self.D.zero_grad()
        target = torch.full((n, 1), 1.0, device=self.device)
        verdict = torch.sigmoid(self.D(self.batch_of_images))
        loss_d_real = self.criterion(verdict, target)
        loss_d_real.backward()
        read.append(verdict.mean().item())
        fakes = self.G(z)
        target.fill_(0.0)
        verdict = torch.sigmoid(self.D(fakes.detach()))
        loss_d_fake = self.criterion(verdict, target)
        loss_d_fake.backward()
        read.append(verdict.mean().item())
        loss_d = loss_d_real + loss_d_fake
        self.optimizer_d.step()
        self.G.zero_grad()
        target.fill_(1.0)
        verdict = torch.sigmoid(self.D(fakes))
        loss_g = self.criterion(verdict, target)
        loss_g.backward()
        read.append(verdict.mean().item())
        self.optimizer_g.step()
        read += [loss_d.item(), loss_g.item()]
        return loss_d_real.detach(), loss_d_fake.detach(), loss_g.detach()
