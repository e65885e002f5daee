# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml``: for the engineer who stands beside the device, and for the device's own systemd units."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import heapq
import json
import os
import sys
from typing import Any, Callable, Mapping, Sequence

from .._common.arguments import ArgumentParser
from .._common.errors import EdgemlError, StoreError, WithdrawnError
from .._common.files import write_whole
from .._common.table import text_table
from .._fetch.options import FetchOptions
from .._release.manifest import MANIFEST_BYTES_MAX, parse_release_json
from .._release.release import MODEL
from .describe import describe_model
from .facts import meminfo
from .orders import Orders
from .plan import SwapOptions
from .request import MICROCONTROLLERS, STORE, SwapRequest
from .runner import ENVIRONMENT, RUNNER, container_environment, read_image, read_runner
from .service_manager import service_manager
from .state import ModelServer
from .store import Store
from .swap import Swap
from .transitions import DEVICE, Cause
from .upgrade_trial import UpgradeTrial

# Whoever holds the lock recovers what there is to settle; systemd must not wait for it.
UNATTENDED_LOCK_SECONDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit code: 0 when it is done, 1 when it failed or found damage, 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    try:
        result, text = options.run(Command(options), options)
    except (EdgemlError, OSError) as error:
        if options.json:
            _say(json.dumps({"error": str(error)}))
        sys.stderr.write(f"edgeml: {error}\n")
        return 1
    if options.json:
        _say(json.dumps(result, sort_keys=True))
    elif text:
        _say(text)
    return 1 if result.get("damaged") or result.get("failed") else 0


class Command:
    """What the subcommands do. Each returns its result, for ``--json``, and its text, for a person."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.store = Store(options.store)
        self._server: str | None = options.server

    def status(self, _options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Tell which versions the device holds and serves."""
        models = [describe_model(self.store, name, self._serving(name).server) for name in self._existing()]
        rows = [
            {
                "model": model["name"],
                "live": model["live"],
                "active": model["active"],
                "previous": model["previous"],
                "trial": _trial_text(model["trial"]),
                "held": ", ".join(model["versions"]),
                "failed": ", ".join(entry["version"] for entry in model["failed"]),
            }
            for model in models
        ]
        orders = Orders(self.store)
        fetching = [orders.describe(order) for order in orders.all()]
        text = "\n".join([*text_table(rows), *_withdrawn_lines(models)]) or "no model"
        if fetching:
            text += "\n\n" + "\n".join(text_table([_fetch_row(order) for order in fetching]))
        result = {"models": models, "fetching": fetching}
        if os.path.exists(MICROCONTROLLERS):
            # Imported here, because few devices have any.
            from .microcontrollers import read_microcontrollers, status

            found, table = status(read_microcontrollers(MICROCONTROLLERS))
            result.update(found)
            text += f"\n\n{table}"
        return result, text

    def history(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Tell the transitions of one or all models, oldest first.

        Those of one model in the order in which they happened, also where the clock was set back in between.
        """
        names = [options.model] if options.model else self._existing()
        histories = [[{"model": name, **entry} for entry in self.store.journal(name).history()] for name in names]
        entries = list(heapq.merge(*histories, key=lambda entry: str(entry.get("time"))))
        rows = [
            {
                **{name: entry.get(name) for name in ("time", "model", "event", "from", "to", "actor")},
                "why": _why(entry),
            }
            for entry in entries
        ]
        return {"history": entries}, "\n".join(text_table(rows)) or "no transition"

    def activate(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Make a version that the store holds the active one, with everything that a swap does."""
        swap_options = SwapOptions(
            retry=options.retry,
            min_ready_seconds=options.min_ready_seconds,
            trial_seconds=options.trial_seconds,
            accept_no_way_back=options.accept_no_way_back,
        )
        with self.store.lock():
            swap = self._swap(options.model, "activate")
            swap.recover_interrupted(act=True, ends_trial=swap.state.active != options.version)
            if swap.state != swap.initial_state:
                swap.notify_if_needed()
            swap.refuse_withdrawn(options.version)
            release = self.store.version(options.model, options.version).release
            plan = swap.plan_active(release, swap.strategy.device(), swap_options)
            if plan.notifies_server:
                swap.activate(plan, swap_options)
            return self._live(swap, plan.changed)

    def revert(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Go back to the version before the active one."""
        with self.store.lock():
            swap = self._swap(options.model, "revert")
            leaves = swap.state.active
            if leaves is None:
                raise StoreError(f"{options.model}: no version is active: there is nothing to go back from")
            # A swap that was interrupted is put back by this: then it is left already.
            swap.recover_interrupted(act=True)
            try:
                plan = swap.plan_revert(leaves, options.accept_withdrawn, options.retry)
            except WithdrawnError as error:
                raise WithdrawnError(f"{error}, or go back to it all the same with --accept-withdrawn") from error
            swap.revert(plan)
            return self._live(swap, plan.changed)

    def verify(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Read every file of every version that is held."""
        rows, damaged = [], []
        for name in [options.model] if options.model else self._existing():
            for number in self.store.versions(name):
                try:
                    self.store.version(name, number).verify()
                    found = "good"
                except (EdgemlError, OSError) as error:
                    found = str(error)
                    damaged.append({"model": name, "version": number, "error": found})
                rows.append({"model": name, "version": number, "found": found})
        return {"verified": rows, "damaged": damaged}, "\n".join(text_table(rows)) or "no version is held"

    def fetch(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Fetch what was ordered, or a release by its manifest, into the store."""
        if options.manifest is not None:
            return self._fetch_release(options)
        if not self.store.exists():
            return {"fetched": []}, "no store yet"
        # Imported here, because its own imports take time on a device that fetches nothing.
        from .fetching import fetch_orders

        results = fetch_orders(self.store, options.textfile)
        with self.store.lock(UNATTENDED_LOCK_SECONDS):
            if all(result["complete"] for result in results):
                service_manager().stop_fetching()
        failed = [result for result in results if result["error"]]
        text = "\n".join(text_table([_fetch_row(result) for result in results]))
        return {"fetched": results, "failed": failed}, text or "no order"

    def share(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Serve the verified blobs to the other devices of the site, until it is ended."""
        # Imported here, because its own imports take time on a device that shares nothing.
        from .sharing import BlobServer, read_options

        with BlobServer(self.store, read_options(options.config)) as server:
            server.serve_forever()
        return {}, ""

    # ---- for systemd ----

    def recover(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Settle what a crash, a power cut or a restart left."""

        def recover(swap: Swap) -> str:
            before = swap.state.active
            swap.recover()
            if not options.before_start:
                swap.notify_if_needed()
            return f"{before} -> {swap.state.active}" if before != swap.state.active else "nothing to recover"

        return self._each_model(recover, before=self.store.clean_staging)

    def watch(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Look at the trials; systemd's timer calls this until there is none."""
        if options.service_failed and not service_manager().gave_up(ModelServer().unit):
            return {"models": {}}, "the service failed, and is started again"

        def look(swap: Swap) -> str:
            outcome = swap.check_trial()
            swap.notify_if_needed()
            return outcome

        reverted = []

        def give_up(swap: Swap) -> str:
            if not swap.service_failed():
                return "no trial"
            reverted.append(swap.model)
            return "reverted"

        def look_at_upgrade() -> None:
            outcome = UpgradeTrial(self.store).look(given_up=options.service_failed)
            if outcome != "no trial":
                sys.stderr.write(f"edgeml: installation: {outcome}\n")

        try:
            return self._each_model(give_up if options.service_failed else look, before=look_at_upgrade)
        finally:
            if reverted:
                service_manager().rescue_service(ModelServer().unit)

    def crashed(self, _options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Count a crash of the service; systemd calls this whenever the service ended, with $SERVICE_RESULT."""
        if os.environ.get("SERVICE_RESULT", "success") == "success":
            return {}, ""

        def count(swap: Swap) -> str:
            before = swap.state.active
            swap.crashed()
            return "no trial" if swap.state.trial is None and before == swap.state.active else "counted"

        return self._each_model(count, before=UpgradeTrial(self.store).crashed)

    def container_environment(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Write what the service's unit needs to know to start the container."""
        # Imported here, because its own imports take time on a device without an engine.
        from .engine import Engine

        runner, memory = read_runner(options.runner), meminfo()["MemTotal"]
        # Two services of one device must not take from each other: only a swap's bridge gives way to what starts.
        joins = Engine(runner.engine).running_image(runner.bridge) is not None
        text = container_environment(runner, read_image(self.store.root), memory, joins)
        write_whole(options.file, text)
        return {}, ""

    def packages(self, _options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Bring the packages to the snapshot that the device should have; the unit calls this. Who starts it holds the
        store's lock, and waits."""
        # Imported here, because its own imports take time on a device that is not patched.
        from .package_manager import PackageManager
        from .packages_strategy import install_wanted

        return {}, install_wanted(self.store, PackageManager())

    def upgraded(self, _options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Begin the trial of what was installed; the installer calls this when the service runs from it."""
        if not self.store.exists():
            return {}, "no store yet"
        with self.store.lock():
            return {}, UpgradeTrial(self.store).begin()

    # ---- the parts ----

    def _fetch_release(self, options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Hold a release whose manifest somebody brought, who answers for it, too."""
        with open(options.manifest, "rb") as file:
            release = parse_release_json(file.read(MANIFEST_BYTES_MAX + 1), options.manifest)
        # A command that fetches a release does all that a module does.
        from .perform import answer_swap

        user = os.environ.get("SUDO_USER") or getpass.getuser()
        request = SwapRequest(
            model=release.model,
            version=release.version,
            state="present",
            manifest=release.document,
            fetch=FetchOptions(sources=options.source, bytes_per_second=options.bytes_per_second),
            reason=f"{user} by edgeml fetch",
            store=self.store.root,
            server=self._serving(release.model).server,
        )
        result = answer_swap(request, check_mode=False)
        failure = (result.get("fetched") or {}).get("failure")
        if result.get("failed") or failure or result.get("missing_blobs"):
            raise StoreError(str(result.get("msg") or (failure or {}).get("message") or "no source was given"))
        return result, f"{release.model} {release.version}: {'held now' if result['changed'] else 'was held already'}"

    def engines(self, _options: argparse.Namespace) -> tuple[dict[str, Any], str]:
        """Test and prepare again what was tested with another runtime or in another power mode."""
        # Imported here, because no other command needs it.
        from .upgrade import renew

        if not self.store.exists():
            return {"renewed": []}, "no store yet"
        with self.store.lock():
            renewed = [f"{model} {version}" for model, version in renew(self.store)]
        return {"renewed": renewed}, "\n".join(f"{name}: tested again" for name in renewed) or "nothing to do"

    def _existing(self) -> list[str]:
        if not self.store.exists():
            raise StoreError(f"{self.store.root}: no store here; the role edgeml.fleet.provision makes it")
        return self.store.models()

    def _serving(self, model: str) -> ModelServer:
        serving = self.store.state(model).serving
        if serving is None:
            kind = self.store.kind(model)
            serving = ModelServer() if kind == MODEL else ModelServer(strategy=kind)
        return serving if self._server is None else ModelServer(serving.strategy, self._server, serving.unit)

    def _swap(self, model: str, subcommand: str) -> Swap:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
        return Swap(self.store, model, Cause(f"{user} by edgeml {subcommand}"), self._serving(model))

    def _live(self, swap: Swap, changed: bool) -> tuple[dict[str, Any], str]:
        live = swap.live()
        result = {"model": swap.model, "changed": changed, **swap.state.versions(), "live": live}
        return result, f"{swap.model}: live now: {live or 'no version'}"

    def _each_model(
        self, act: Callable[[Swap], str], before: Callable[[], None] = lambda: None
    ) -> tuple[dict[str, Any], str]:
        """Do ``act`` with each model under the lock, and ``before`` once; a model that fails does not keep the others
        from it."""
        if not self.store.exists():
            return {"models": {}}, "no store yet"
        outcomes, errors, on_trial = {}, [], False
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.store.lock(UNATTENDED_LOCK_SECONDS))
            except StoreError as error:
                return {"models": {}, "busy": str(error)}, f"left alone: {error}"
            try:
                before()
                on_trial = UpgradeTrial(self.store).is_on
            except (EdgemlError, OSError) as error:
                errors.append(str(error))
            for name in self.store.models():
                try:
                    swap = Swap(self.store, name, DEVICE, self._serving(name))
                    outcomes[name] = act(swap)
                except (EdgemlError, OSError) as error:
                    errors.append(f"{name}: {error}")
                with contextlib.suppress(EdgemlError, OSError):
                    on_trial = on_trial or self.store.state(name).trial is not None
            if not on_trial:
                service_manager().stop_watching()
        if errors:
            raise StoreError("; ".join(errors))
        return {"models": outcomes}, "\n".join(f"{name}: {outcome}" for name, outcome in outcomes.items())


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="edgeml", description="The models of this device.")
    common = ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON instead of text")
    common.add_argument("--store", default=STORE, metavar="PATH", help=f"the device's store (default: {STORE})")
    common.add_argument("--server", metavar="ADDRESS", help="socket or URL of the inference server")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Callable[..., Any], text: str) -> ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("status", Command.status, "which versions are live, active, on trial and held")
    add("history", Command.history, "what happened to the models, oldest first").add_argument("model", nargs="?")
    activate = add("activate", Command.activate, "make a held version serve, or keep the old one")
    activate.add_argument("model")
    activate.add_argument("version")
    activate.add_argument("--retry", action="store_true", help="also when it failed here before")
    activate.add_argument(
        "--accept-no-way-back", action="store_true", help="also where the device could not return to what serves now"
    )
    activate.add_argument(
        "--min-ready-seconds",
        type=float,
        default=SwapOptions().min_ready_seconds,
        metavar="S",
        help="how long it must stay ready",
    )
    activate.add_argument(
        "--trial-seconds", type=float, default=SwapOptions().trial_seconds, metavar="S", help="how long it is on trial"
    )
    revert = add("revert", Command.revert, "go back to the version before")
    revert.add_argument("model")
    revert.add_argument("--accept-withdrawn", action="store_true", help="also to a release that is withdrawn")
    revert.add_argument("--retry", action="store_true", help="also to one that failed here, or was left before")
    fetch = add("fetch", Command.fetch, "fetch what was ordered, or the release of a manifest")
    fetch.add_argument("--manifest", metavar="FILE", help="the manifest of a release; you answer for where it is from")
    fetch.add_argument(
        "--source", action="append", default=[], metavar="URL", help="http://, https:// or file://, the first one first"
    )
    fetch.add_argument("--bytes-per-second", type=int, default=0, metavar="N", help="0: no limit")
    fetch.add_argument("--textfile", metavar="FILE", help="write the progress for node_exporter's textfile collector")
    share = add("share", Command.share, "serve verified blobs to the other devices of the site, as the unit does")
    share.add_argument(
        "--config", default="/etc/edgeml/share.json", metavar="FILE", help="where it listens, and limits"
    )
    add("verify", Command.verify, "read every file and compare its SHA-256").add_argument("model", nargs="?")
    recover = add("recover", Command.recover, "settle what a crash or a power cut left")
    recover.add_argument("--before-start", action="store_true", help="the service starts next: do not tell it")
    watch = add("watch", Command.watch, "look at the trials once, as the timer does")
    watch.add_argument("--service-failed", action="store_true", help="the service was given up: revert the trials")
    environment = add(
        "container-environment", Command.container_environment, "write what the service's container is started with"
    )
    environment.add_argument("--runner", default=RUNNER, metavar="FILE", help=f"default: {RUNNER}")
    environment.add_argument("--file", default=ENVIRONMENT, metavar="FILE", help=f"default: {ENVIRONMENT}")
    add(
        "packages", Command.packages, "bring the packages to the snapshot that the device should have, as the unit does"
    )
    add(
        "engines",
        Command.engines,
        "test and prepare again what serves, after a change of the power mode, as the unit does",
    )
    add("upgraded", Command.upgraded, "begin the trial of a new installation, as the installer does")
    add("crashed", Command.crashed, "count a crash of the service, as its unit does")
    return parser


def _trial_text(trial: Mapping[str, Any] | None) -> str:
    return f"{trial['seconds']:g} s, else {trial['returns_to'] or 'none'}" if trial else ""


def _withdrawn_lines(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why the withdrawn releases are withdrawn that the device holds."""
    return [
        f"{model['name']} {version}{' is active, and' if version == model['active'] else ''} is withdrawn: {reason}"
        for model in models
        for version, reason in model["withdrawn"].items()
    ]


def _why(entry: Mapping[str, Any]) -> str | None:
    """Why a transition was made, and why it should not have had to be."""
    why: str | None = entry.get("reason") or entry.get("why")
    if "withdrawn" not in entry:
        return why
    return "; ".join(filter(None, (why, f"{entry.get('to')} is withdrawn: {entry['withdrawn']}")))


def _fetch_row(order: Mapping[str, Any]) -> dict[str, Any]:
    percent = 100 * order["held_bytes"] // order["bytes"]
    last = order["last"] or {}
    return {
        "fetches": f"{order['model']} {order['version']}",
        "here": f"{order['held_bytes']} of {order['bytes']} bytes ({percent}%)"
        + (f", {order['delta_bytes']} of a delta" if order["delta_bytes"] else ""),
        "last": " ".join(filter(None, (last.get("time"), last.get("kind")))),
        "message": last.get("message"),
    }


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
