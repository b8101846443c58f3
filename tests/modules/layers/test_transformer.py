import pytest
import torch

from tm_torchrl.modules.layers.transformer import ReadoutTransformer


@pytest.mark.parametrize("num_layers", [1, 2])
def test_what_is_read_is_as_if_all_tokens_were_computed(num_layers: int) -> None:
    torch.manual_seed(0)
    read, tokens = ReadoutTransformer(16, num_layers=num_layers), torch.randn(3, 5, 16)
    whole = read.transformer(torch.cat([read.readout.expand(3, 1, 16), tokens], 1))
    assert whole.shape == (3, 6, 16)
    torch.testing.assert_close(read(tokens), whole[:, 0])
    found, expected = (
        torch.autograd.grad(out.square().sum(), list(read.parameters()), retain_graph=True)
        for out in (read(tokens), whole[:, 0])
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
