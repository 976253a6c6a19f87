"""One connection to an MQTT broker: where it is, TLS, and errors in words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import aiomqtt

from routed.datastore import sockets
from routed.datastore.retry import UnavailableError

KEEP_ALIVE = 15
"""Seconds after which a connection on which nothing came or went is tried (MQTT 3.1.1, 3.1.2.10)."""

ANSWER_TIME = 10.0
"""Seconds that the broker may take for an answer."""

CONNECT_TIME = 5.0
"""Seconds for TCP and, again, for TLS."""

PARTING = 0.2
"""Seconds that a broker has to take our DISCONNECT: one that reads nothing is left without."""

IN_FLIGHT = 200
"""Publications that wait for their acknowledgement at once."""

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_ENVIRON = ("ROUTED_MQTT_CA_CERT_FILE", "ROUTED_MQTT_CERT_FILE", "ROUTED_MQTT_KEY_FILE")


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """Where the broker is, what is before all topics, and how to get in. The password is in no text that is
    made of this. `tls`: the files of authorities, our certificate and its key; None: no TLS."""

    host: str
    port: int
    prefix: str
    tls: tuple[str | None, str | None, str | None] | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_url(url: str, environ: Mapping[str, str]) -> MqttOptions:
    """`mqtt://[USER[:PASSWORD]@]HOST[:PORT]/PREFIX`, or `mqtts:` for TLS; and the environment. Raises
    ValueError, which never quotes a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(
            "mqtt: write mqtt://HOST:PORT/PREFIX, such as mqtt://192.0.2.1:1883/calico"
        ) from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname:
        raise ValueError("mqtt: write mqtt://HOST:PORT/PREFIX (mqtts:// with TLS)")
    prefix = unquote(parts.path).strip("/")
    if set(url) & set("?#") or not prefix or set(prefix) & set("+#\0") or prefix.startswith("$"):
        raise ValueError(
            f"{scheme}://{parts.hostname}: a prefix of topics follows, such as /calico, without '+', '#' "
            "and '?' and not beginning with '$'"
        )
    username, password = _user(parts, environ)
    tls = _tls(environ) if scheme == "mqtts" else None
    if scheme == "mqtt" and any(environ.get(name) for name in _ENVIRON):
        raise ValueError(
            "mqtt: certificates are named (ROUTED_MQTT_...), but there is no TLS: write mqtts://"
        )
    return MqttOptions(parts.hostname, port or _PORTS[scheme], prefix, tls, username, password)


def _user(parts: SplitResult, environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    username = environ.get("ROUTED_MQTT_USERNAME") or (unquote(parts.username) if parts.username else None)
    password = environ.get("ROUTED_MQTT_PASSWORD") or (unquote(parts.password) if parts.password else None)
    if path := environ.get("ROUTED_MQTT_PASSWORD_FILE"):
        try:
            password = Path(path).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise ValueError(f"ROUTED_MQTT_PASSWORD_FILE: {path}: {reason}") from None
    if password is not None and username is None:
        raise ValueError("mqtt: there is a password, but no user: set ROUTED_MQTT_USERNAME")
    return username, password


def _tls(environ: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    ca_file, cert_file, key_file = (environ.get(name) or None for name in _ENVIRON)
    if (cert_file is None) != (key_file is None):
        raise ValueError(
            "ROUTED_MQTT_CERT_FILE and ROUTED_MQTT_KEY_FILE belong together: set both or neither"
        )
    return ca_file, cert_file, key_file


def _context(options: MqttOptions) -> ssl.SSLContext | None:
    """Read anew for each connection, so that renewed certificates are taken up."""
    if options.tls is None:
        return None
    ca_file, cert_file, key_file = options.tls
    reading = ca_file
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if cert_file is not None:
            reading = f"{cert_file} and {key_file}"
            # Without this OpenSSL would ask for a passphrase at the terminal.
            context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnavailableError(f"TLS: {reading}: {text}") from None
    return context


@contextlib.asynccontextmanager
async def connected(
    options: MqttOptions, will: aiomqtt.Will | None = None, identifier: str | None = None
) -> AsyncIterator[aiomqtt.Client]:
    """A connection with a clean session; `identifier` is the client's, which the broker lets one connection
    have at a time: a new one takes the place of the old; None: any. Raises UnavailableError where it cannot
    be had, and turns into one what the block raises about the connection. Cancelled, it ends at once,
    whatever the broker does."""
    context = _context(options)
    client = aiomqtt.Client(
        options.host,
        options.port,
        username=options.username,
        password=options.password,
        tls_context=context,
        identifier=identifier,
        will=will,
        clean_session=True,
        keepalive=KEEP_ALIVE,
        timeout=ANSWER_TIME,
        max_inflight_messages=IN_FLIGHT,
    )
    # More than its ten publications at once are no fault here.
    client.pending_calls_threshold = 1 << 16
    _notice_early_end(client)
    cancelled: asyncio.CancelledError | None = None
    try:
        sock = await _open(options, context)
        # paho's own way blocks a thread, and the process could not end before that is done.
        client._client._create_socket = lambda: sock  # type: ignore[method-assign]
        try:
            async with client:
                try:
                    yield client
                except asyncio.CancelledError as error:
                    cancelled = error
                    raise
                finally:
                    client.timeout = PARTING
        finally:
            # Where there was no answer, or no DISCONNECT could be sent, aiomqtt leaves it open.
            client._client._sock_close()
            sock.close()
    except (aiomqtt.MqttError, OSError, UnicodeError) as error:
        if cancelled is not None:
            raise cancelled from None
        raise UnavailableError(f"{options}: {_words(error)}") from None


async def _open(options: MqttOptions, context: ssl.SSLContext | None) -> socket.socket:
    """A connected socket, with TLS where it is wanted. Raises OSError."""
    plain = await sockets.connect(options.host, options.port, CONNECT_TIME)
    if context is None:
        return plain
    try:
        secured = context.wrap_socket(plain, server_hostname=options.host, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    try:
        async with asyncio.timeout(CONNECT_TIME):
            await _handshake(secured)
    except TimeoutError:
        secured.close()
        raise TimeoutError("TLS: no answer") from None
    except BaseException:
        secured.close()
        raise
    return secured


async def _handshake(secured: ssl.SSLSocket) -> None:
    """The TLS handshake of a non-blocking socket, that waits on the event loop."""
    loop = asyncio.get_running_loop()
    ways = {
        ssl.SSLWantReadError: (loop.add_reader, loop.remove_reader),
        ssl.SSLWantWriteError: (loop.add_writer, loop.remove_writer),
    }
    while True:
        try:
            secured.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
            watch, forget = ways[type(wanted)]
        else:
            return
        ready = loop.create_future()
        watch(secured.fileno(), lambda ready=ready: ready.done() or ready.set_result(None))  # type: ignore[misc]
        try:
            await ready
        finally:
            forget(secured.fileno())


def _notice_early_end(client: aiomqtt.Client) -> None:
    """aiomqtt waits in vain for the answer to its CONNECT where the connection ends before that: until
    `ANSWER_TIME` is over."""
    paho = client._client
    inner = paho.on_disconnect

    def on_disconnect(*arguments: Any) -> None:
        if not client._connected.done():
            client._connected.set_exception(aiomqtt.MqttError("it ended the connection before an answer"))
        elif inner is not None:
            inner(*arguments)

    paho.on_disconnect = on_disconnect


def _words(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)  # asyncio's own texts repeat the address
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    cause = error.__cause__
    text = str(cause) if cause is not None and str(cause) else str(error)
    if "Unspecified error" in text:
        return "it ended the connection"  # paho's words for that
    return " ".join(text.split()) or type(error).__name__
