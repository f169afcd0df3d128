"""The network of the paper's Appendix B from PyTorch's layers, named as the released one is."""

import numpy as np


def torch_unet(torch, dim, features, multipliers, kernel_size=5):
    """A module (x, k, y, keep) -> noise whose state dict has Decision Diffuser's names."""
    tnn = torch.nn

    class Named(tnn.Module):
        """Layers under the names that they have in the released code."""

        def __init__(self, **layers):
            super().__init__()
            for name, layer in layers.items():
                self.add_module(name, layer)

    def conv_block(size_in, size_out):
        conv = tnn.Conv1d(size_in, size_out, kernel_size, padding=kernel_size // 2)
        # Places 1 and 3 are the released code's rearrangements, which hold no weights.
        layers = conv, tnn.Identity(), tnn.GroupNorm(8, size_out), tnn.Identity(), tnn.Mish()
        block = Named(block=tnn.Sequential(*layers))
        block.forward = block.block.__call__
        return block

    class Residual(tnn.Module):
        def __init__(self, size_in, size_out):
            super().__init__()
            self.blocks = tnn.ModuleList(
                [conv_block(size_in, size_out), conv_block(size_out, size_out)]
            )
            self.time_mlp = tnn.Sequential(tnn.Mish(), tnn.Linear(2 * features, size_out))
            same = size_in == size_out
            self.residual_conv = tnn.Identity() if same else tnn.Conv1d(size_in, size_out, 1)

        def forward(self, x, e):
            first, second = self.blocks
            return second(first(x) + self.time_mlp(e)[:, :, None]) + self.residual_conv(x)

    def resize(layer):
        module = Named(conv=layer)
        module.forward = layer.__call__
        return module

    class UNet(tnn.Module):
        def __init__(self):
            super().__init__()
            f, sizes = features, [features * m for m in multipliers]
            self.time_mlp = tnn.Sequential(
                *(tnn.Identity(), tnn.Linear(f, 4 * f), tnn.Mish(), tnn.Linear(4 * f, f))
            )
            self.returns_mlp = tnn.Sequential(
                *(tnn.Linear(1, f), tnn.Mish(), tnn.Linear(f, 4 * f), tnn.Mish()),
                tnn.Linear(4 * f, f),
            )
            self.downs, self.ups = tnn.ModuleList(), tnn.ModuleList()
            before = dim
            for level, size in enumerate(sizes):
                last = level == len(sizes) - 1
                halve = tnn.Identity() if last else resize(tnn.Conv1d(size, size, 3, 2, 1))
                pair = [Residual(before, size), Residual(size, size), halve]
                self.downs.append(tnn.ModuleList(pair))
                before = size
            self.mid_block1, self.mid_block2 = (Residual(before, before) for _ in range(2))
            for size, skip in zip(sizes[-2::-1], sizes[:0:-1], strict=True):
                double = resize(tnn.ConvTranspose1d(size, size, 4, 2, 1))
                pair = [Residual(before + skip, size), Residual(size, size), double]
                self.ups.append(tnn.ModuleList(pair))
                before = size
            self.final_conv = tnn.Sequential(conv_block(before, f), tnn.Conv1d(f, dim, 1))

        def forward(self, x, k, y, keep):
            horizon, half = x.shape[1], features // 2
            frequencies = torch.exp(torch.arange(half) * (-np.log(10000.0) / (half - 1)))
            angles = k.float()[:, None] * frequencies[None]
            time = self.time_mlp(torch.cat([angles.sin(), angles.cos()], -1))
            e = torch.cat([time, self.returns_mlp(y[:, None]) * keep[:, None]], -1)
            h = tnn.functional.pad(x.transpose(1, 2), (0, -horizon % 2 ** (len(multipliers) - 1)))
            skips = []
            for first, second, halve in self.downs:
                h = second(first(h, e), e)
                skips.append(h)
                h = halve(h)
            h = self.mid_block2(self.mid_block1(h, e), e)
            for first, second, double in self.ups:
                h = double(second(first(torch.cat([h, skips.pop()], 1), e), e))
            return self.final_conv(h)[:, :, :horizon].transpose(1, 2)

    module = UNet()
    with torch.no_grad():  # GroupNorm starts at 1 and 0, which would hide a mistake
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module
