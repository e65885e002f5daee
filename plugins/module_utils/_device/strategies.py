# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Which strategy serves a model: by what its state, or a call, names."""

from __future__ import annotations

from .._common.errors import ServerError
from .._release.release import IMAGE, PACKAGES
from .client import WORK_SECONDS, Server
from .service_config import load_seconds
from .serving import ANSWER_SECONDS, LoadStrategy, NoStrategy, Strategy, UnitStrategy
from .state import SMP_STRATEGY, STRATEGIES, ModelServer
from .store import Store


def make_strategy(serving: ModelServer, store: Store) -> Strategy:
    """The strategy that ``serving`` names, for a model in ``store``."""
    if serving.strategy == "load":
        # The server itself gives a load up first, and says so.
        seconds = max(WORK_SECONDS, load_seconds() + ANSWER_SECONDS)
        return LoadStrategy(Server(serving.server, work_seconds=seconds), serving.unit)
    if serving.strategy in ("reload", "restart"):
        return UnitStrategy(serving.unit, serving.strategy)
    if serving.strategy == "none":
        return NoStrategy()
    if serving.strategy == SMP_STRATEGY:
        # Imported here, because only a device with microcontrollers behind it needs it.
        from .smp_strategy import SmpStrategy

        return SmpStrategy(store, serving.server)
    if serving.strategy == IMAGE:
        # Imported here, because a call about a model needs none of it.
        from .image_strategy import ImageStrategy
        from .runner import read_runner

        return ImageStrategy(Server(serving.server), serving.unit, store, read_runner())
    if serving.strategy == PACKAGES:
        from .package_manager import PackageManager
        from .packages_strategy import PackagesStrategy

        return PackagesStrategy(Server(serving.server), store, PackageManager())
    known = f"{', '.join(STRATEGIES[:-1])} or {STRATEGIES[-1]}"
    raise ServerError(f"strategy: expected {known}; found {serving.strategy!r}")
