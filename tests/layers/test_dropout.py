import pytest
import torch
from torch import nn

from deconvnet.layers.dropout import sample_dropout


def test_only_dropout_is_switched_on_and_all_is_as_before_afterwards():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Dropout(0.5)).eval()
    network[2].train()
    with sample_dropout(network):
        assert [module.training for module in network] == [False, True, True]
        assert network(torch.ones(1, 2, 9, 9)).eq(0).any()
    assert [module.training for module in network] == [False, False, True]


def test_the_modes_are_restored_after_an_error_too():
    network = nn.Sequential(nn.Dropout(0.5)).eval()
    with pytest.raises(ZeroDivisionError), sample_dropout(network):
        _ = 1 / 0
    assert not network[0].training
