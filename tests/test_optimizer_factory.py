"""What users hand in as optimizers is refused in one sentence where no check could use it."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import nn

from pytest_ckptload.checks import Checker, Defaults
from pytest_ckptload.examine.trials.stepping import take_step
from pytest_ckptload.observe import observe
from pytest_ckptload.recipes import eager_resume

SGD = torch.optim.SGD


def checked(make_optimizer, **chosen):
    chosen = {"features": [], "max_examples": 0, "build": lambda: nn.Linear(2, 2), **chosen}
    checker = Checker(Defaults(isolation="off"))
    return checker.check_resume(eager_resume, make_optimizer=make_optimizer, **chosen)


def from_one_generator():
    parameters = nn.Linear(2, 2).parameters()
    return lambda module: SGD(parameters)


def of_the_module_once():
    """The generator is of the right module, the first time."""
    kept = []

    def make(module):
        kept.append(module.parameters())
        return SGD(kept[0])

    return make


def in_turn(*makers):
    calls = []

    def make(module):
        calls.append(module)
        return makers[(len(calls) - 1) % len(makers)](module)

    return make


def groups(count, **settings):
    def make(module):
        first, *more = module.parameters()
        rest = [{"params": [p]} for p in more[: count - 1]]
        return SGD([{"params": [first], **settings}, *rest], lr=0.5)

    return make


class Unreadable(SGD):
    def state_dict(self):
        return {**super().state_dict(), "made by": Unreadable}


class Refusing(SGD):
    def load_state_dict(self, state_dict):
        raise KeyError("decay")


class TwoPasses(SGD):
    def step(self, closure, again):
        """Not to be called with a closure alone."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (3, "make_optimizer= is a callable, not 3"),
        (lambda module: None, "returned a NoneType, not an optimizer"),
        (lambda module: module, "returned a Linear, not an optimizer"),
        (lambda module: SGD([]), r"failed for a Linear: ValueError: optimizer got an empty.*call"),
        (lambda module: SGD([{"params": []}]), "made an optimizer without a parameter: call"),
        (from_one_generator(), "of tensors that are no parameters of the module: call"),
        (of_the_module_once(), "failed for a Linear: .*it worked the first time: .*generator"),
        (
            lambda module: SGD([p.detach().clone().requires_grad_() for p in module.parameters()]),
            "of tensors that are no parameters of the module",
        ),
        (lambda module: SGD([torch.ones(2) * p for p in module.parameters()]), "non-leaf"),
        (lambda module: SGD(module.parameters(), lr=math.nan), r"param_groups\[0\]\['lr'\] is nan"),
        (groups(2, weight_decay=torch.tensor(math.nan)), "'weight_decay'.* is .*nan"),
        (groups(2, betas=(0.9, math.nan)), "'betas'.* is .*nan"),
        (
            in_turn(lambda m: SGD(m.parameters()), lambda m: torch.optim.AdamW(m.parameters())),
            "the same optimizer each time: it made a SGD, then a AdamW",
        ),
        (in_turn(groups(1), groups(2)), "does not load what .*a different number of parameter gro"),
        (in_turn(groups(2), groups(1)), "ValueError: loaded state dict has a different number of"),
        (lambda m: Refusing(m.parameters()), "does not load what the first one saved: KeyError"),
        (lambda m: Unreadable(m.parameters()), "no file can hold that is read with weights_only"),
        (lambda m: TwoPasses(m.parameters()), "a TwoPasses that cannot take a step: TypeError"),
    ],
)
def test_an_optimizer_that_no_check_can_use_is_refused_in_a_sentence(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        checked(make)


def test_one_and_the_same_optimizer_is_refused():
    module = nn.Linear(2, 2)
    optimizer = SGD(module.parameters())
    with pytest.raises(ValueError, match="returned the same optimizer twice"):
        checked(lambda module: optimizer, build=in_turn_modules(module))


def in_turn_modules(module):
    """A factory whose modules have the parameters of this one, which no check looks at."""

    def build():
        made = nn.Linear(2, 2)
        made.weight, made.bias = module.weight, module.bias
        return made

    return build


def test_one_that_fails_for_a_generated_module_is_named():
    def make(module):
        return SGD([module.weight, module.bias])

    with pytest.raises(ValueError, match="make_optimizer=make failed for a "):
        checked(make, build=None, features=["containers"])


def test_keys_that_torch_does_not_know_are_let_pass():
    class Tagged(SGD):
        def state_dict(self):
            return {**super().state_dict(), "schedule": {"warm": 3}}

        def load_state_dict(self, state_dict):
            self.schedule = state_dict["schedule"]
            super().load_state_dict(state_dict)

    assert checked(lambda m: Tagged(m.parameters(), momentum=0.5)).examples


def test_a_state_dict_that_is_laid_out_otherwise_is_let_pass():
    class Listed(SGD):
        def state_dict(self):
            return {"all": [super().state_dict()]}

        def load_state_dict(self, state_dict):
            super().load_state_dict(state_dict["all"][0])

    assert checked(lambda m: Listed(m.parameters(), momentum=0.5)).examples


def test_what_a_scheduler_put_over_a_step_does_not_hide_what_it_takes():
    """As those of torch 2.4 did."""

    def scheduled(parameters):
        optimizer = torch.optim.LBFGS(parameters)
        step = optimizer.step
        optimizer.step = lambda *arguments, **named: step(*arguments, **named)
        return optimizer

    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    take_step(scheduled(module.parameters()), observe(module), 0)
    assert not torch.equal(module.weight, before)


def test_a_learning_rate_that_is_none_is_let_pass():
    """Adafactor computes its own in each step."""

    class Relative(SGD):
        def __init__(self, params):
            super().__init__(params)
            self.param_groups[0]["lr"] = None

        def step(self, closure=None):
            for parameter in self.param_groups[0]["params"]:
                parameter.data.sub_(parameter.grad, alpha=0.125)

    assert checked(lambda m: Relative(m.parameters())).examples


@pytest.mark.parametrize("draw", [lambda: torch.rand(()), random.random], ids=["torch", "python"])
def test_one_that_draws_random_numbers_in_a_step_is_let_pass(draw):
    """As Kron does for its preconditioner, and Langevin dynamics for everything."""

    class Noisy(SGD):
        def step(self, closure=None):
            super().step()
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.data += draw()

    assert checked(lambda m: Noisy(m.parameters(), momentum=0.5)).examples


def test_one_that_cannot_do_without_a_closure_is_given_one():
    given = []

    class Closed(SGD):
        def step(self, closure):
            given.append(closure())
            return super().step()

    assert checked(lambda m: Closed(m.parameters())).examples
    assert given


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (3, "make_scheduler= is a callable, not 3"),
        (lambda optimizer: None, "returned a NoneType, not a scheduler"),
        (lambda optimizer: 1 / 0, "failed for a SGD: ZeroDivisionError"),
    ],
)
def test_a_scheduler_that_is_none_is_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        checked(lambda m: SGD(m.parameters()), make_scheduler=make)
