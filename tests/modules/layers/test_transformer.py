import pytest
import torch

from tm_torchrl.modules.layers.transformer import ReadoutTransformer


@pytest.mark.parametrize("num_layers", [1, 2])
def test_what_is_read_is_as_if_all_tokens_were_computed(num_layers: int) -> None:
    torch.manual_seed(0)
    read, tokens = ReadoutTransformer(16, num_layers=num_layers), torch.randn(3, 5, 16)
    first = tokens.sum(1, keepdim=True) / 5**0.5 + read.readout
    whole = read.transformer(torch.cat([first, tokens], 1))
    assert whole.shape == (3, 6, 16)
    torch.testing.assert_close(read(tokens), whole[:, 0])
    found, expected = (
        torch.autograd.grad(out.square().sum(), list(read.parameters()), retain_graph=True)
        for out in (read(tokens), whole[:, 0])
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_where_blocks_add_nothing_the_sum_of_the_tokens_is_read() -> None:
    read = ReadoutTransformer(4, num_layers=2)
    for block in read.transformer.blocks:
        for layer in (block.output, block.layers[-1]):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    torch.nn.init.zeros_(read.readout)
    tokens = torch.tensor([[[1.0, 0.0, 2.0, 0.0], [3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 8.0, 0.0, 0.0]]])
    torch.testing.assert_close(read(tokens), torch.tensor([[2.0, 4.0, 2.0, 0.0]]))  # sums / sqrt(4), not normalised
