import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_cards import tiny_card
from torch import nn

from mmdiff_video.pretraining.denoisers import new_denoiser
from mmdiff_video.training import TrainConfig
from mmdiff_video.training.muon import Muon, hidden_weights, orthogonal


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed_tokens = nn.Embedding(10, 8)
        self.conv = nn.Conv2d(8, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.head = nn.Linear(16, 2)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.gain * self.head(x.mean((2, 3)))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(2, 40), columns=st.integers(2, 40), size=st.floats(1e-6, 1e6))
def test_all_singular_values_end_near_one(rows: int, columns: int, size: float):
    torch.manual_seed(rows * 100 + columns)
    matrix = torch.randn(rows, columns)
    scaled = torch.stack([matrix * size, matrix])  # of different sizes, together
    values = torch.linalg.svdvals(orthogonal(scaled)[0])
    assert torch.allclose(orthogonal(scaled)[1], orthogonal(scaled[1:])[0], atol=1e-3)
    kept = torch.linalg.svdvals(matrix / matrix.norm()) > 0.02  # tiny ones need more steps
    assert values.max() < 1.3
    rounded = orthogonal(scaled, torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert torch.linalg.svdvals(rounded).max() < 1.35
    assert values[kept].min() > 0.5


def test_hidden_weights_get_muon_and_the_rest_adamw():
    net = Net()
    chosen = hidden_weights(net)
    assert chosen == {"conv.weight"}  # the head has two outputs only
    optimizer = TrainConfig(optimizer="muon", weight_decay=0.1).make_optimizer(net, {})
    assert isinstance(optimizer, Muon)
    flags = {
        name: group["orthogonal"]
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    assert {name for name, flag in flags.items() if flag} == chosen
    assert set(flags) == {name for name, _ in net.named_parameters()}


@pytest.mark.parametrize("name", ["nano-wan", "nano-flux"])
def test_no_table_of_a_text_encoder_gets_muon(name: str):
    denoiser = new_denoiser(tiny_card(name))
    tables = [
        table
        for table, module in denoiser.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Embedding)
    ]
    assert any(table.endswith("shared") for table in tables)  # of T5, tied to embed_tokens
    chosen = hidden_weights(denoiser)
    assert chosen.isdisjoint(f"{table}.weight" for table in tables)
    assert any("text_encoder" in weight for weight in chosen)


def test_an_update_has_adamws_size_and_ignores_the_gradients():
    weight = nn.Parameter(torch.zeros(32, 8, 3, 3))
    for scale in (1e-4, 1e4):
        weight.data.zero_()
        optimizer = Muon([{"params": [weight], "orthogonal": True}], lr=1e-2, weight_decay=0.0)
        weight.grad = scale * torch.randn(weight.shape, generator=torch.manual_seed(0))
        optimizer.step()
        assert 0.1e-2 < weight.square().mean().sqrt() < 0.3e-2
        assert weight.grad is None


def test_state_goes_through_a_file_and_training_goes_on_the_same():
    def run(steps: int, restart_at: int | None = None) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net, x = Net(), torch.randn(8, 8, 6, 6)
        config = TrainConfig(optimizer="muon")
        optimizer = config.make_optimizer(net, {})
        for step in range(steps):
            if step == restart_at:
                state = optimizer.state_dict()
                optimizer = config.make_optimizer(net, {})
                optimizer.load_state_dict(state)
            net.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        return list(net.parameters())

    for a, b in zip(run(6), run(6, restart_at=3), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(24, 8), (8, 24), (12, 12)])
def test_on_matrices_it_is_torchs_muon(shape: tuple[int, int]):
    torch.manual_seed(0)
    mine = nn.Parameter(torch.randn(shape))
    theirs = nn.Parameter(mine.detach().clone())
    settings = {"lr": 1e-2, "weight_decay": 0.1}
    ours = Muon([{"params": [mine], "orthogonal": True}], compute_dtype=torch.bfloat16, **settings)
    torchs = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    start = mine.detach().clone()
    for _ in range(5):
        gradient = torch.randn(shape)
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        torchs.step()
    assert (mine - theirs).norm() < 0.02 * (mine - start).norm()  # bfloat16's rounding
