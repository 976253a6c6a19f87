"""X.509 certificates for tests, made by openssl in a folder: an authority, and what it signs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple


def unavailable() -> str | None:
    """Why none can be made here, None where they can."""
    return None if shutil.which("openssl") else "openssl is not installed (Debian: apt-get install openssl)"


class Certificate(NamedTuple):
    """Two files in PEM."""

    cert: str
    key: str


class Authority:
    """Signs certificates for servers and clients at 127.0.0.1."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.certificate = Certificate(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", self.certificate.key, "-out", self.certificate.cert),
        )

    def sign(
        self, name: str, days: int = 2, password: str | None = None, alternatives: str = "IP:127.0.0.1"
    ) -> Certificate:
        """A certificate with this common name, good for `days` from now (negative: expired). A `password`
        encrypts its key."""
        made = Certificate(str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key"))
        request = str(self.folder / f"{name}.csr")
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(
            f"subjectAltName={alternatives}\nkeyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth,clientAuth\nauthorityKeyIdentifier=keyid\n"
        )
        protect = ("-nodes",) if password is None else ("-passout", f"pass:{password}")
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *protect),
            *("-subj", f"/CN={name}", "-keyout", made.key, "-out", request),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate.cert, "-CAkey", self.certificate.key),
            *("-CAcreateserial", "-days", str(days), "-extfile", str(extensions), "-out", made.cert),
        )
        return made


def _openssl(*arguments: str) -> None:
    subprocess.run(("openssl", *arguments), check=True, capture_output=True, timeout=30)
