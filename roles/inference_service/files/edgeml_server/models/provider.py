# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ONNX Runtime computes on: one module for each of its execution providers, imported only where it is chosen.

To add one, write a module ``provider_NAME`` with a subclass of Provider and its instance ``PROVIDER``, and name it in
``config.PROVIDERS``.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any

import onnxruntime

from edgeml_server.common.errors import ModelError


class Provider(ABC):
    """An execution provider. What it cannot compute of a model, the CPU does."""

    name: str
    """Its name in the configuration."""
    execution_provider: str
    """ONNX Runtime's name of it."""
    makes_engine = False
    """Whether it compiles a model for the very device, in seconds to minutes, and can keep the result (an engine)."""

    @abstractmethod
    def attach(self, settings: Any) -> list[Any]:
        """Choose it for sessions with these ``SessionOptions``, there or by the list of providers that is returned.

        Raises ModelError when this runtime has it not, or finds no device for it.
        """

    def make_engine(self, path: str, engine: str, settings: Any) -> None:
        """Compile the model at ``path`` into the ONNX file ``engine``, and files beside it, which any session loads
        that has this provider. Raises whatever ONNX Runtime raises."""
        # https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html
        settings.add_session_config_entry("ep.context_enable", "1")
        settings.add_session_config_entry("ep.context_file_path", engine)
        settings.add_session_config_entry("ep.context_embed_mode", "0")
        open_session(path, settings, self)

    def conditions(self) -> str:
        """What an engine fits, beside the runtime, in words: its software's version, the processor, the power mode."""
        return ""

    def identity(self) -> str:
        """What a prepared model fits that was made with it, in words. Raises ModelError."""
        return ", ".join(filter(None, (self.name, self.conditions())))

    def require(self) -> None:
        """Raise ModelError unless the runtime was built with it."""
        known = onnxruntime.get_available_providers()
        if self.execution_provider not in known:
            raise ModelError(
                f"execution_provider {self.name!r}: ONNX Runtime {onnxruntime.__version__} as it is installed here has "
                f"{', '.join(known)}; not {self.execution_provider}. Install one that has it, or choose cpu"
            )


def provider_for(name: str) -> Provider:
    """The provider that is called so in the configuration. Raises ModelError when its packages are not installed."""
    try:
        module = importlib.import_module(f".provider_{name}", __package__)
    except ImportError as error:
        raise ModelError(f"execution_provider {name!r}: not installed: {error}") from error
    provider: Provider = module.PROVIDER
    return provider


def open_session(path: str, settings: Any, provider: Provider) -> Any:
    """A session of the model at ``path``, on the provider's device.

    ONNX Runtime goes on with the CPU where a provider cannot begin, and says so in its log: a device would then be ten
    times slower, and nobody would know why. Raises ModelError for that, and whatever ONNX Runtime raises.
    """
    session = onnxruntime.InferenceSession(path, settings, providers=provider.attach(settings) or None)
    if provider.execution_provider not in session.get_providers():
        raise ModelError(
            f"{path}: execution_provider {provider.name!r}: ONNX Runtime could not begin with it and took "
            f"{', '.join(session.get_providers())}; its reason is in the service's log. See its driver, or choose cpu"
        )
    return session
