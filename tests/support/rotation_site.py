# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet whose authority is replaced: real servers with certificates of it, and clients that ask them all the while.

Each machine is a directory. A reload command notes each call in the file ``reloads`` of the site.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import onnx_models
from containers import wait_for
from controller import Ansible, Run
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from links import PYTHON_PATH
from mosquitto import Broker
from nginx import NGINX, Nginx, defaults, rendered
from report_mailbox import Mailbox
from server_process import Device, plus_input

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import fingerprint, make_request
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import Authority
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.succession import fingerprint_of

GUARD_SECONDS = 240
SERVERS = ("server", "mailbox", "models")
DAYS = 30
_PLUS = json.dumps({"inputs": [plus_input([1, 2])]})
_REFUSED = (ssl.SSLError, ConnectionError, http.client.HTTPException)


def key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def issue_server(directory: Path, authority: Path) -> None:
    """Have ``certificate.pem`` and ``key.pem`` of a server on this machine, signed by the key of an authority."""
    issuer = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes())
    issuer_key = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    begin = issuer.not_valid_before_utc
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, directory.name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .add_extension(usage, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(key_text(key))


class Client:
    """A device's certificate, its key and what it believes, in a directory; it reads them anew when it is told to."""

    def __init__(self, directory: Path, name: str, authority: Authority) -> None:
        directory.mkdir()
        self.name, self.directory = name, directory
        key = ec.generate_private_key(ec.SECP256R1())
        digest = fingerprint(key.public_key())
        certificate = authority.sign(make_request(key, name), name, digest, days=DAYS)
        (directory / "certificate.pem").write_text(certificate)
        (directory / "key.pem").write_bytes(key_text(key))
        self.authorities.write_bytes(authority.pem)

    @property
    def serial(self) -> int:
        """The number of its certificate."""
        return x509.load_pem_x509_certificate((self.directory / "certificate.pem").read_bytes()).serial_number

    @property
    def authorities(self) -> Path:
        """The file of those that it believes."""
        return self.directory / "authorities.pem"

    def both(self) -> Path:
        """Its certificate with its key as they are now, in a file of their own."""
        path = self.directory / f"{self.serial:x}.pem"
        path.write_bytes(b"".join((self.directory / name).read_bytes() for name in ("certificate.pem", "key.pem")))
        return path

    def context(self, both: Path | None = None) -> ssl.SSLContext:
        """What it connects with: what it believes now, and its certificate, or another one."""
        context = ssl.create_default_context(cafile=str(self.authorities))
        own = (both,) if both else (self.directory / "certificate.pem", self.directory / "key.pem")
        context.load_cert_chain(*own)
        return context

    def place(self, reload: list[str]) -> dict[str, Any]:
        """As the playbook has it."""
        files = {name: str(self.directory / f"{name}.pem") for name in ("certificate", "key")}
        return {
            "name": "client",
            **files,
            "authorities": [str(self.authorities)],
            "reload": [*reload, self.name, str(self.directory / "told"), "true"],
        }


class Site:
    """An inference server on ``edge-1``, a client on each of two devices, and the machines ``mail`` (a mailbox and a
    repository) and ``broker``. A context manager."""

    def __init__(self, directory: Path, crl: bool = False) -> None:
        self.directory = directory
        self.authority_directory = directory / "authority"
        self.authority = Authority.create(str(self.authority_directory))
        self.authority.write_reader("controller", str(self.authority.reader_path("controller")), days=DAYS)
        if crl:
            self._revoke_somebody()
        self.reloads = directory / "reloads"
        self.tell = directory / "tell"
        self.kill_at(0)
        self.tell.write_text(_TELL.format(directory=directory))
        self.tell.chmod(0o755)
        self.clients = {name: Client(directory / name, name, self.authority) for name in ("edge-1", "edge-2")}
        self._stack = ExitStack()
        self.ports: dict[str, int] = {}
        self._crl = self.authority.crl()
        self.ansible = Ansible(directory, [])

    def _revoke_somebody(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self.authority.sign(make_request(key, "edge-0"), "edge-0", fingerprint(key.public_key()), days=DAYS)
        self.authority.revoke("edge-0")

    def __enter__(self) -> Site:
        # What has started ends, also where the next one does not start.
        with self._stack:
            self._start_server()
            self._start_mailbox()
            self._start_repository()
            self._start_broker()
            self.write_inventory()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _start_server(self) -> None:
        (self.directory / "server").mkdir()
        self.server = Device(self.directory / "server")
        self._stack.callback(self.server.stop)
        issue_server(self.server.directory, self.authority_directory)
        (self.server.directory / "client-ca.pem").write_bytes(self.authority.pem)
        self.server.publish("plus", "1.0.0", onnx_models.plus(1))
        config: dict[str, Any] = {
            f"tls_{name}": str(self.server.directory / f"{name.replace('_', '-')}.pem")
            for name in ("certificate", "key", "client_ca")
        }
        self.server.start(**config)
        self.ports["server"] = self.server.port

    def _start_mailbox(self) -> None:
        (self.directory / "mailbox").mkdir()
        self.mailbox = Mailbox(self.directory / "mailbox", client_ca=self.authority.pem, tls_crl=self._crl)
        self._stack.callback(self.mailbox.stop)
        self.ports["mailbox"] = self.mailbox.port
        for name in self.clients:
            (self.mailbox.files / "reports" / name).mkdir()
        issue_server(self.mailbox.directory, self.authority_directory)
        subprocess.run([*self.nginx(self.mailbox.directory), "-s", "reload"], check=True)
        # nginx does it when it is told, and not before the command has ended.
        client = self.clients["edge-1"]
        wait_for(lambda: self.lets_in("mailbox", client.context()), "the mailbox's certificate")

    def _start_repository(self) -> None:
        directory = self.directory / "models"
        (directory / "metadata").mkdir(parents=True)
        (directory / "metadata/timestamp.json").write_text("{}")
        issue_server(directory, self.authority_directory)
        (directory / "client-ca.pem").write_bytes(self.authority.pem)
        values = {**defaults("model_repository"), "directory": str(directory), "tls_client_ca": "there"}
        values.update(requests_per_second=10000, requests_burst=10000)
        self.ports["models"] = int(values["listen_port"])
        configuration = rendered(
            "model_repository",
            "edgeml-model-repository.conf",
            __model_repository_values=values,
            __model_repository_tls=True,
            __model_repository_tls_directory=str(directory),
        )
        self._stack.callback(Nginx(directory, configuration).stop)

    def _start_broker(self) -> None:
        (self.directory / "mosquitto").mkdir()
        self.broker = Broker(self.directory / "mosquitto", tls_crl=self._crl)
        issue_server(self.broker.directory, self.authority_directory)
        (self.broker.directory / "client-ca.pem").write_bytes(self.authority.pem)
        self.broker.start()
        self._stack.callback(self.broker.stop)

    @staticmethod
    def nginx(directory: Path) -> list[str]:
        """The command of a server's nginx."""
        return [NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf")]

    # ---- the controller ----

    def places(self) -> dict[str, list[dict[str, Any]]]:
        """Where each machine has credentials."""
        server = self.server
        reload = [server.python, "-m", "edgeml_server.tools.reload", "--config", str(server.config_path)]
        of_server = ["env", f"PYTHONPATH={PYTHON_PATH}", *reload, str(server.pid)]
        # Mosquitto is the test's own process: it is told by a file that the test looks at.
        of_broker = [sys.executable, "-c", _RESTART, str(self.broker.directory)]
        return {
            "edge-1": [
                self._place("inference_service", server.directory, of_server, crl=False),
                self.clients["edge-1"].place([str(self.tell)]),
            ],
            "edge-2": [self.clients["edge-2"].place([str(self.tell)])],
            "mail": [
                self._nginx_place("report_mailbox", self.mailbox.directory, crl=bool(self._crl)),
                self._nginx_place("model_repository", self.directory / "models", crl=False),
            ],
            "broker": [self._place("mqtt_broker", self.broker.directory, of_broker, crl=bool(self._crl))],
        }

    def _place(self, name: str, directory: Path, reload: list[str], crl: bool) -> dict[str, Any]:
        return {
            "name": name,
            "certificate": str(directory / "certificate.pem"),
            "key": str(directory / "key.pem"),
            "authorities": [str(directory / "client-ca.pem")],
            "revocations": str(directory / "client-crl.pem") if crl else "",
            "reload": [str(self.tell), name, "/dev/null", *reload],
        }

    def _nginx_place(self, name: str, directory: Path, crl: bool) -> dict[str, Any]:
        command = self.nginx(directory)
        place = self._place(name, directory, [*command, "-s", "reload"], crl)
        return {**place, "check": [*command, "-t", "-q"]}

    def write_inventory(self, *away: str) -> None:
        """Have the inventory, in which nobody answers for those that are ``away``."""
        hosts = {}
        for name, places in self.places().items():
            hosts[name] = {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "ansible_become": False,
                "rotate_places": places,
            }
            if name in away:
                hosts[name] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
        groups = {"edge": ("edge-1", "edge-2"), "mailbox": ("mail",), "brokers": ("broker",)}
        children = {group: {"hosts": {name: hosts[name] for name in names}} for group, names in groups.items()}
        (self.ansible.directory / "hosts.json").write_text(json.dumps({"all": {"children": children}}))

    def fingerprint(self) -> str:
        """That of the authority which signs."""
        pem = (self.authority_directory / "ca.pem").read_bytes()
        return fingerprint_of(x509.load_pem_x509_certificate(pem))

    def believed(self) -> list[str]:
        """The fingerprints of the authorities in the directory on the controller."""
        pem = (self.authority_directory / "ca.pem").read_bytes()
        return [fingerprint_of(certificate) for certificate in x509.load_pem_x509_certificates(pem)]

    def told(self) -> list[str]:
        """The services that were told to take new files, each time."""
        return self.reloads.read_text().split() if self.reloads.exists() else []

    def kill_at(self, number: int, moment: str = "never") -> None:
        """Have the controller killed when a service is told for the time ``number``: before that or after it."""
        (self.directory / "kill-at").write_text(str(number))
        (self.directory / "moment").write_text(moment)

    def interrupted(self, **changes: Any) -> None:
        """Run the playbook in a process group that a reload command may kill."""
        process = self.ansible.start("edgeml.fleet.rotate_credentials", **self.variables(**changes))
        (self.directory / "controller.pid").write_text(str(process.pid))
        process.communicate()
        self._end_workers()

    def _end_workers(self) -> None:
        """End what a killed controller has left: its workers are in sessions of their own."""
        home = f"HOME={self.ansible.directory}".encode()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if home in environment.read_bytes().split(b"\0"):
                    os.kill(int(environment.parent.name), signal.SIGKILL)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """End a controller with all that it has started."""
        process.kill()
        process.communicate()
        self._end_workers()

    def variables(self, **changes: Any) -> dict[str, Any]:
        """Those of each run."""
        return {
            "enroll_authority": str(self.authority_directory),
            "rollout_ledger": str(self.directory / "ledger"),
            **changes,
        }

    def rotate(self, *options: str, **changes: Any) -> Run:
        """Run the playbook."""
        return self.ansible.run("edgeml.fleet.rotate_credentials", *options, **self.variables(**changes))

    # ---- what is asked ----

    def ask(self, what: str, context: ssl.SSLContext, name: str = "edge-1") -> int:
        """Ask one of the servers once, over a connection of its own. Returns the status. Raises OSError."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.ports[what], context=context, timeout=GUARD_SECONDS)
        with closing(connection):
            if what == "server":
                connection.request("POST", "/v2/models/plus/infer", _PLUS)
            elif what == "mailbox":
                connection.request("PUT", f"/reports/{name}/1.json.part", b"{}")
            else:
                connection.request("GET", "/metadata/timestamp.json")
            reply = connection.getresponse()
            reply.read()
            return reply.status

    def lets_in(self, what: str, context: ssl.SSLContext, name: str = "edge-1") -> bool:
        """Whether a server answers who connects like this."""
        try:
            return self.ask(what, context, name) < 300
        except _REFUSED:
            return False

    def wait_in(self, context: ssl.SSLContext, name: str = "edge-1") -> None:
        """Wait until all servers answer the client ``name``: nginx takes its new files a moment later."""
        for what in SERVERS:
            wait_for(functools.partial(self.lets_in, what, context, name), what)

    def wait_out(self, context: ssl.SSLContext, name: str = "edge-1") -> None:
        """Wait until no server answers the client ``name``."""
        for what in SERVERS:
            wait_for(functools.partial(self._keeps_out, what, context, name), what)

    def _keeps_out(self, what: str, context: ssl.SSLContext, name: str) -> bool:
        return not self.lets_in(what, context, name)


# A reload command NAME FILE COMMAND…: it notes who is told, has it told, and says so in FILE. It kills the controller,
# what runs here and itself before that or after it, where a test wants that.
_TELL = """#!/bin/sh
cd {directory} || exit 1
name=$1 file=$2
shift 2
echo "$name" >> reloads
die() {{
    # Several are told at once, so that the number may be passed between two lines.
    if [ "$(wc -l < reloads)" -ge "$(cat kill-at)" ] && [ "$(cat moment)" = "$1" ]; then
        kill -KILL -"$(cat controller.pid)" $PPID
        kill -KILL $$
    fi
}}
die before
"$@" || exit 1
echo "$name" >> "$file"
die after
"""
_RESTART = """
import os, sys, time
directory = sys.argv[1]
open(os.path.join(directory, "restart"), "w").close()
while os.path.exists(os.path.join(directory, "restart")):
    time.sleep(0.02)
"""


class Load:
    """Asks the servers without a pause, as a device does, while it is a context; and restarts the broker when asked."""

    def __init__(self, site: Site, name: str = "edge-1") -> None:
        self._site, self._name = site, name
        self.count: dict[str, int] = {}
        self.failures: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(what,)) for what in SERVERS] + [
            threading.Thread(target=self._serve_restarts)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, what: str) -> None:
        client = self._site.clients[self._name]
        told, context = b"", client.context()
        while not self._end.is_set():
            path = client.directory / "told"
            now = path.read_bytes() if path.exists() else b""
            if now != told:
                told, context = now, client.context()
            self.count[what] = self.count.get(what, 0) + 1
            try:
                status = self._site.ask(what, context, self._name)
                if status >= 300:
                    self.failures.append(f"{what}: {status}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{what}: {error!r}")
            time.sleep(0.03)

    def _serve_restarts(self) -> None:
        path = self._site.broker.directory / "restart"
        while not self._end.is_set():
            if path.exists():
                self._site.broker.stop()
                self._site.broker.start()
                path.unlink()
            time.sleep(0.02)
