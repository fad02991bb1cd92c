"""What projects add through hooks, made known once for each session.

Apart from the hook specifications, which only declare, and from the zoo, which knows no pytest.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_ckptload.zoo.feature import Feature

__all__ = ["know_features"]

_FEATURES = pytest.StashKey[tuple["Feature", ...]]()


def know_features(config: pytest.Config) -> None:
    """Register the features that ``pytest_ckptload_features`` returns, until the session ends.

    Raises ``pytest.UsageError`` for what is no feature, or has a name that is taken.
    """
    if _FEATURES in config.stash:
        return
    from pytest_ckptload.zoo import forget, register
    from pytest_ckptload.zoo.feature import Feature

    config.stash[_FEATURES] = ()
    for answer in config.hook.pytest_ckptload_features(config=config):
        for feature in answer or ():
            if not isinstance(feature, Feature):
                raise pytest.UsageError(
                    f"pytest_ckptload_features: expected pytest_ckptload.Feature, not {feature!r}"
                )
            try:
                register(feature)
            except ValueError as error:
                raise pytest.UsageError(f"pytest_ckptload_features: {error}") from None
            config.stash[_FEATURES] += (feature,)
            config.add_cleanup(functools.partial(forget, feature))
