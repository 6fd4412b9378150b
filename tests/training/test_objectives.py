"""Language modelling is the cross-entropy of each next token."""

import torch
import torch.nn.functional as F

from glassformer.training import LanguageModelling


def test_language_modelling_predicts_each_next_token(tiny_model):
    model = tiny_model()
    batch = torch.randint(11, (3, 9))
    expected = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
    torch.testing.assert_close(LanguageModelling(chunk_tokens=5)(model, batch), expected)


def test_gradients_reach_every_parameter_as_in_the_plain_version(tiny_model):
    plain, chunked = tiny_model(), tiny_model()
    batch = torch.randint(11, (3, 9))
    F.cross_entropy(plain(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()).backward()
    LanguageModelling(chunk_tokens=7)(chunked, batch).backward()
    for (name, expected), got in zip(plain.named_parameters(), chunked.parameters(), strict=True):
        assert got.grad is not None, name
        torch.testing.assert_close(got.grad, expected.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_ignored_targets_do_not_count(tiny_model):
    model = tiny_model()
    batch = torch.randint(11, (2, 9))
    inputs, targets = batch[:, :-1], batch[:, 1:].clone()
    targets[1] = -100
    torch.testing.assert_close(
        LanguageModelling().loss(model, inputs, targets), LanguageModelling()(model, batch[:1])
    )
