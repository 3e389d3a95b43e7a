"""The image, scripts/docker_run.sh and docker-compose.yml on a real Docker engine."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from etl.settings import PROJECT
from tests.support.requirements import pins

#: Seconds; the first build downloads the wheels.
BUILD_SECONDS = 300
READY_SECONDS = 90

IMAGE = "features-etl"
STATE = "/var/lib/features-etl/postgres"
SBOM = "/usr/share/doc/features-etl/sbom.cdx.json"

TOKEN = {"Authorization": "Bearer t0ken"}

#: The shell's own DB_HOST or PORT would count for the script and for compose.
ENVIRON = {
    name: value
    for name, value in os.environ.items()
    if name in ("HOME", "PATH") or name.startswith("DOCKER_")
}


def run(
    *command: str, timeout: float = READY_SECONDS, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=ENVIRON | environ,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def output(*command: str, timeout: float = READY_SECONDS, **environ: str) -> str:
    """What a command printed; it must succeed."""
    ended = run(*command, timeout=timeout, **environ)
    assert ended.returncode == 0, f"{command}:\n{ended.stdout}{ended.stderr}"
    return ended.stdout.strip()


def missing() -> str | None:
    """What is not there of what these tests need, or None."""
    for words in ("docker info", "docker compose version"):
        try:
            if run(*words.split(), timeout=30).returncode != 0:
                return words
        except (OSError, subprocess.TimeoutExpired):
            return words
    return None


if without := missing():
    pytest.skip(f"needs Docker: `{without}` fails", allow_module_level=True)


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def unique_name() -> str:
    return f"features-etl-test-{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class Service:
    """A service in a container."""

    container: str
    port: str

    def get(self, path: str, **headers: str) -> Any:
        request = Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
            return json.load(answer)

    def inspect(self, what: str) -> str:
        form = "{{." + what + "}}"
        return output("docker", "container", "inspect", "-f", form, self.container)

    def start_again(self) -> None:
        """Start the stopped container and wait until it is ready."""
        output("docker", "start", self.container)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            assert self.inspect("State.Running") == "true", self.logs()
            try:
                self.get("/readyz")
                return
            except OSError:
                assert time.monotonic() < deadline, self.logs()
                time.sleep(0.1)

    def logs(self) -> str:
        ended = run("docker", "logs", self.container)
        return ended.stdout + ended.stderr


def script(
    container: str, port: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return run(
        "scripts/docker_run.sh",
        *arguments,
        timeout=BUILD_SECONDS + READY_SECONDS,
        CONTAINER=container,
        PORT=port,
    )


@contextmanager
def started(*arguments: str) -> Iterator[Service]:
    """A service that scripts/docker_run.sh started; removed in the end."""
    service = Service(unique_name(), free_port())
    try:
        ended = script(service.container, service.port, *arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert f"http://127.0.0.1:{service.port}" in ended.stdout
        assert f"docker stop {service.container}" in ended.stdout
        yield service
    finally:
        run("docker", "rm", "--force", "--volumes", service.container)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service that has filled features."""
    with started() as service:
        require_features_after_a_run(service)
        yield service


def require_features_after_a_run(service: Service) -> None:
    assert service.get("/features") == []
    answer = service.get("/trigger_etl")
    assert answer["message"] == "ETL process started"
    assert answer["result"] == "successfully inserted into database"
    require_features(service)


def require_features(service: Service) -> None:
    """The ten rows that the shipped data gives."""
    rows = {row["user_id"]: row for row in service.get("/features")}
    assert sorted(rows) == list(range(1, 11))
    assert rows[1]["name"] == "Alice"
    assert rows[1]["most_common_compound_name"] == "Compound B"
    for key, row in rows.items():
        assert row["total_experiments"] == (2 if key == 1 else 1)
        assert row["avg_experiments"] == 11 / 10
        assert row["experiments_pct"] == row["total_experiments"] / 11


def require_clean_stop(service: Service) -> None:
    output("docker", "stop", service.container)
    # 137 would mean that Docker's ten seconds ran out.
    assert service.inspect("State.ExitCode") == "0", service.logs()


def in_image(script: str) -> str:
    """What a shell script prints that root runs in a new container."""
    shell = ("--rm", "--user", "0", "--entrypoint", "sh", IMAGE, "-c", script)
    return output("docker", "run", *shell)


#: What the kernel says of each process: the user, no capabilities, none to be had.
UNPRIVILEGED = """\
CapBnd:\t0000000000000000
CapEff:\t0000000000000000
NoNewPrivs:\t1
Uid:\t10001\t10001\t10001\t10001"""


def require_hardened(service: Service) -> None:
    """No process is root or could become it, and the root file system is read-only."""
    shell = ("docker", "exec", service.container, "sh", "-c")
    statuses = "cat /proc/[0-9]*/status | grep -E '^(CapBnd|CapEff|NoNewPrivs|Uid):'"
    assert output(*shell, f"{statuses} | sort -u") == UNPRIVILEGED
    assert output(*shell, "grep ' / ' /proc/mounts").split()[3].startswith("ro,")
    output(*shell, "touch /tmp/may-be-written")


def wait_for_health(service: Service, wanted: str) -> None:
    since, of = str(int(time.time())), f"container={service.container}"
    listen = ["docker", "events", "--since", since, "--filter", of]
    with subprocess.Popen(
        [*listen, "--filter", "event=health_status"],
        env=ENVIRON,
        stdout=subprocess.PIPE,
    ) as events:
        try:
            assert events.stdout
            while service.inspect("State.Health.Status") != wanted:
                until(events.stdout.fileno(), b"health_status")
        finally:
            events.kill()


def test_container_becomes_healthy(service: Service) -> None:
    wait_for_health(service, "healthy")


def test_nothing_in_the_container_is_root_or_writes_to_the_image(
    service: Service,
) -> None:
    require_hardened(service)


def test_image_lists_what_it_contains(service: Service) -> None:
    """As the docs say how to read it; every program is there, each with its version."""
    cat = ("--rm", "--entrypoint", "cat", IMAGE, SBOM)
    command = ("docker", "run", *cat)
    assert " ".join(command) in (PROJECT / "docs" / "operations.md").read_text()
    document = output(*command)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None

    found: dict[str, dict[str, str]] = {}
    components = json.loads(document)["components"]
    for component in components:
        components += component.get("components", [])
        kind = component.get("purl", ":").partition(":")[2].partition("/")[0]
        found.setdefault(kind, {})[component["name"]] = component["version"]
    required = {name: pin[0] for name, pin in pins("requirements.txt").items()}
    del required["tzdata"]  # of Windows alone
    # The Python of an image brings pip.
    assert required.items() <= found["pypi"].items()
    assert found["pypi"].keys() - required <= {"pip", "setuptools", "wheel"}
    in_database = ask_database(service, "select current_setting('server_version')")
    assert found["generic"]["postgresql"] == in_database
    assert {"libpq", "openssl", "pgvector", "python"} <= found["generic"].keys()
    assert found["npm"].keys() == {"chart.js", "swagger-ui-dist"}
    assert "libc6" in found["deb"]


def test_the_log_says_that_anyone_may_start_runs(service: Service) -> None:
    assert "API_TOKEN is not set: any client of 0.0.0.0" in service.logs()


def test_psql_in_the_container_reads_features(service: Service) -> None:
    exec_psql = ("docker", "exec", service.container, "psql")
    assert output(*exec_psql, "-At", "-c", "select count(*) from features") == "10"
    assert output(*exec_psql, "-At", "-c", "select 'a  b'") == "a  b"
    ended = run(*exec_psql, "-c", "select nothing")
    assert ended.returncode == 1
    assert 'column "nothing" does not exist' in ended.stderr


def test_psql_in_the_container_is_interactive(service: Service) -> None:
    ours, its = os.openpty()
    with subprocess.Popen(
        ["docker", "exec", "-it", service.container, "psql", "--no-readline"],
        env=ENVIRON,
        stdin=its,
        stdout=its,
        stderr=its,
    ) as process:
        os.close(its)
        try:
            shown = until(ours, b"postgres=# ")
            os.write(ours, b"select name from features where user_id = 1;\n")
            shown += until(ours, b"(1 row)")
            os.write(ours, b"\\q\n")
            assert process.wait(READY_SECONDS) == 0
        finally:
            process.kill()
            os.close(ours)
    assert b" Alice" in shown


def until(terminal: int, words: bytes) -> bytes:
    """What a terminal shows up to these words."""
    shown = b""
    while words not in shown:
        ready, _, _ = select.select([terminal], [], [], READY_SECONDS)
        assert ready, shown
        shown += os.read(terminal, 1 << 16)
    return shown


def test_data_and_pipeline_are_mounted_and_the_state_is_in_a_volume() -> None:
    """As the README says, with the shop for one's own pipeline."""
    volume, shop = unique_name(), PROJECT / "examples" / "shop"
    mounts = [f"{shop}/data:/app/data:ro", f"{shop}/sql:/app/sql:ro"]
    mounts.append(f"{volume}:/var/lib/features-etl")
    readme = (PROJECT / "README.md").read_text()
    products = shop / "data" / "products.csv"
    options = [option for mount in mounts for option in ("--volume", mount)]
    assert all(f":{mount.split(':', 1)[1]}" in readme for mount in mounts)
    asked = ("-At", "-c", "select product_name from features where product_id = 101")
    try:
        with started(*options, "--env", "API_TOKEN=t0ken") as service:
            answer = service.get("/trigger_etl", **TOKEN)
            assert answer["run"]["state"] == "succeeded"
            status, detail = put(service, products.name, products.read_bytes(), **TOKEN)
            assert (status, "may not write" in detail) == (403, True)
            assert "Read-only file system" in detail
        with started(*options) as service:
            printed = output("docker", "exec", service.container, "psql", *asked)
            assert printed == "Espresso cup"
    finally:
        run("docker", "volume", "rm", "--force", volume)


USERS = b"user_id,name,email,signup_date\n1,Sent,,\n"


def put(service: Service, name: str, content: bytes, **headers: str) -> tuple[int, str]:
    """Send a file as the docs do; the status, and what is wrong."""
    url = f"http://127.0.0.1:{service.port}/files/{name}"
    request = Request(url, content, headers, method="PUT")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, ""
    except HTTPError as error:
        with error:
            return error.code, json.load(error)["detail"]


def test_files_are_sent_into_a_volume_and_stay_there() -> None:
    """By whoever has the token: the container cannot tell who else is near."""
    volume = unique_name()
    options = ("--volume", f"{volume}:/app/data", "--env", "API_TOKEN=t0ken")
    shown = ("docker", "exec")
    try:
        with started(*options) as service:
            assert put(service, "users.csv", USERS)[0] == 401
            assert put(service, "users.csv", USERS, **TOKEN) == (200, "")
        with started(*options) as service:
            listed = output(*shown, service.container, "cat", "/app/data/users.csv")
            assert listed.endswith("1,Sent,,")
    finally:
        run("docker", "volume", "rm", "--force", volume)


def test_files_are_refused_without_a_token(service: Service) -> None:
    status, detail = put(service, "users.csv", USERS)
    assert (status, "set API_TOKEN" in detail) == (403, True)


@pytest.mark.usefixtures("service")
def test_image_has_no_tools_of_its_build() -> None:
    tools = "command -v cc gcc make; ls /opt/venv/bin | grep pip"
    left = "find / -xdev -path '*/.cache/pip*' -o -name pginstall"
    assert in_image(f"{tools}; {left}") == ""


@pytest.mark.usefixtures("service")
def test_image_has_only_what_the_service_needs() -> None:
    files = in_image("ls -A /app").split()
    expected = ["data", "etl", "requirements.txt", "scripts", "server.py", "sql"]
    assert sorted(files) == expected


def test_stop_is_clean_and_start_keeps_features(service: Service) -> None:
    require_clean_stop(service)
    service.start_again()
    require_features(service)


def test_killed_container_starts_again(service: Service) -> None:
    output("docker", "kill", service.container)
    service.start_again()
    require_features(service)
    service.get("/trigger_etl")
    require_features(service)


def test_killed_container_starts_again_though_its_numbers_are_taken() -> None:
    # With --init the first process is neither Postgres nor one of its parents.
    taken, free = "1", "999999"
    with started("--init") as service:
        require_features_after_a_run(service)
        # The second is how it looks when Postgres' own logger gets the old number:
        # free while the data folder is checked, taken when the socket is.
        for in_data, at_socket in ((taken, taken), (free, taken)):
            output("docker", "kill", service.container)
            write_numbers(service, in_data, at_socket)
            service.start_again()
            require_features(service)
        require_clean_stop(service)


def write_numbers(service: Service, in_data: str, at_socket: str) -> None:
    """Change the process numbers that a killed Postgres left in its two notes."""
    commands = (
        f"sed -i '1s/.*/{in_data}/' {STATE}/data/postmaster.pid"
        f" && sed -i '1s/.*/{at_socket}/' {STATE}/.s.PGSQL.5432.lock"
    )
    shell = ("--rm", "--volumes-from", service.container, "--entrypoint", "sh", IMAGE)
    output("docker", "run", *shell, "-c", commands)


def test_script_leaves_a_container_of_that_name_alone(service: Service) -> None:
    ended = script(service.container, free_port())
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert f"{service.container} exists already" in ended.stderr
    require_features(service)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "LOAD_WORKERS=many"], "LOAD_WORKERS: 'many' is not a whole number"),
        (["--no-such-option"], "no-such-option"),
    ],
)
def test_script_tells_why_a_start_failed(arguments: list[str], words: str) -> None:
    container = unique_name()
    ended = script(container, free_port(), *arguments)
    assert ended.returncode == 1
    assert words in ended.stderr
    assert run("docker", "container", "inspect", container).returncode != 0


def test_script_tells_of_a_taken_port_and_leaves_no_container(service: Service) -> None:
    container = unique_name()
    ended = script(container, service.port)
    assert ended.returncode == 1
    assert "port is already allocated" in ended.stderr
    assert run("docker", "container", "inspect", container).returncode != 0


@dataclass(frozen=True)
class Composed(Service):
    """The service in a project of Docker Compose."""

    command: tuple[str, ...]

    def up(self) -> None:
        up = ("up", "--detach", "--build", "--wait", "--wait-timeout")
        seconds = str(READY_SECONDS)
        output(*self.command, *up, seconds, timeout=BUILD_SECONDS, PORT=self.port)

    def down(self, *options: str) -> None:
        output(*self.command, "down", *options, PORT=self.port)


@contextmanager
def composed(env_file: Path, *files: str) -> Iterator[Composed]:
    """The service of docker-compose.yml and more files; removed in the end."""
    project = unique_name()
    command = ["docker", "compose", "--project-name", project]
    command += ["--env-file", str(env_file)]
    # Five times as often as the image says.
    often = env_file.with_name("often.yml")
    often.write_text("services: {etl: {healthcheck: {interval: 1s}}}")
    for file in ("docker-compose.yml", *files, str(often)):
        command += ["--file", file]
    service = Composed(f"{project}-etl-1", free_port(), tuple(command))
    try:
        service.up()
        yield service
    finally:
        service.down("--volumes", "--rmi", "local")


def database_of(service: Service) -> str:
    """User, database and port of the Postgres that the service uses."""
    return ask_database(
        service, "select session_user, current_database(), current_setting('port')"
    )


#: Whether the service may become a superuser, and whose its tables are.
RIGHTS = """
select
    (select bool_or(rolsuper) from pg_roles
        where pg_has_role(session_user, oid, 'member')),
    (select string_agg(distinct tableowner, ' ') from pg_tables
        where schemaname in ('etl', 'staging', 'appended', 'public'))
"""

#: The roles that may log in by the network.
WITH_A_PASSWORD = """
select string_agg(rolname, ' ') from pg_authid where rolpassword is not null
"""


def require_no_superuser(service: Composed, login: str) -> None:
    """The service may become no superuser, and its password is of no other role."""
    assert ask_database(service, RIGHTS) == "f|features_owner"
    psql = ("exec", "-T", "db", "psql", "-U", "features_admin", "-At", "postgres")
    found = output(*service.command, *psql, "-c", WITH_A_PASSWORD, PORT=service.port)
    assert found == login


def ask_database(service: Service, query: str) -> str:
    """What the database of the service answers."""
    return output("docker", "exec", service.container, "psql", "-At", "-c", query)


def test_compose_needs_no_env_file(tmp_path: Path) -> None:
    nothing = tmp_path / "empty.env"
    nothing.touch()
    with composed(nothing) as service:
        assert database_of(service) == "postgres|postgres|5432"
        require_hardened(service)
        # A volume without a name would be left behind by `docker compose down`.
        mounts = service.inspect("HostConfig.Mounts") + service.inspect("Mounts")
        assert "/app/data" in mounts
        assert "volume" not in mounts
        require_features_after_a_run(service)
        require_no_superuser(service, "postgres")
        output(*service.command, "stop", "db", PORT=service.port)
        wait_for_health(service, "unhealthy")
        output(*service.command, "start", "db", PORT=service.port)
        wait_for_health(service, "healthy")
        require_features(service)
        require_clean_stop(service)


def test_compose_honours_an_env_file(tmp_path: Path) -> None:
    env_file = tmp_path / "challenge.env"
    env_file.write_text(
        "DB_PORT=6543\nDB_USER=ann\nDB_PASS='s$cret #1'\nDB_NAME=lab\nLOAD_WORKERS=2\n"
    )
    with composed(env_file) as service:
        assert database_of(service) == "ann|lab|6543"
        assert "LOAD_WORKERS=2" in service.inspect("Config.Env")
        require_features_after_a_run(service)
        require_no_superuser(service, "ann")


#: The Postgres of docker-compose.yml before it had the roles.
EARLIER = """
services:
  db:
    environment:
      POSTGRES_USER: ${DB_USER:-postgres}
    volumes: !override
      - db:/var/lib/postgresql
"""


def test_compose_takes_the_volume_of_an_earlier_version(tmp_path: Path) -> None:
    """Where the role that logs in is the superuser, and remains it."""
    nothing, earlier = tmp_path / "empty.env", tmp_path / "earlier.yml"
    nothing.touch()
    earlier.write_text(EARLIER)
    with composed(nothing, str(earlier)) as service:
        require_features_after_a_run(service)
        service.down()
        earlier.write_text("{}")
        service.up()
        require_features(service)
        files = service.get("/trigger_etl")["run"]["files"]
        assert {file["load"] for file in files} == {"kept"}
        assert ask_database(service, RIGHTS) == "t|postgres"


CITUS = "docker-compose.citus.yml"

#: The services with a Postgres.
DATABASES = ["db", "worker-1", "worker-2"]

#: The nodes where rows of experiments are.
NODES_WITH_ROWS = """
select string_agg(distinct nodename, ' ' order by nodename)
from run_command_on_shards(
    'staging.user_experiments', 'select count(*) from %s'
) as found
inner join citus_shards using (shardid)
where found.result <> '0'
"""


@cache
def citus_services() -> dict[str, Any]:
    """The services of docker-compose.yml and docker-compose.citus.yml."""
    files = ("--file", "docker-compose.yml", "--file", CITUS, "--env-file", os.devnull)
    config = output("docker", "compose", *files, "config", "--format", "json")
    services: dict[str, Any] = json.loads(config)["services"]
    return services


def test_compose_of_citus_has_a_coordinator_and_two_workers() -> None:
    services = citus_services()
    etl, nodes = services.pop("etl"), services.pop("nodes")
    assert etl["depends_on"]["nodes"]["condition"] == "service_completed_successfully"
    assert sorted(services) == sorted(nodes["depends_on"]) == DATABASES
    for name, service in services.items():
        assert service["image"] == nodes["image"]
        assert nodes["depends_on"][name]["condition"] == "service_healthy"
        assert any(f"'{name}'" in word for word in nodes["entrypoint"])
    assert len({service["volumes"][0]["source"] for service in services.values()}) == 3
    # The image's volume, which `docker compose down` would leave behind without a name.
    data = [service["volumes"][0]["target"] for service in (nodes, *services.values())]
    assert set(data) == {"/var/lib/postgresql"}


def test_compose_runs_on_citus(tmp_path: Path) -> None:
    image = citus_services()["db"]["image"]
    if run("docker", "image", "inspect", image).returncode != 0:
        pytest.skip(f"needs the image {image}: `docker pull {image}`")
    env_file = tmp_path / "citus.env"
    settings = "DB_USER=ann\nDB_PASS='s$cret #1'\nDB_NAME=lab\n"
    env_file.write_text(settings)
    with composed(env_file, CITUS) as service:
        assert database_of(service) == "ann|lab|5432"
        require_features_after_a_run(service)
        assert ask_database(service, NODES_WITH_ROWS) == "worker-1 worker-2"
        # The volumes remain, and the coordinator has a new port.
        service.down()
        env_file.write_text(settings + "DB_PORT=6543\n")
        service.up()
        assert database_of(service) == "ann|lab|6543"
        require_features(service)
        files = service.get("/trigger_etl")["run"]["files"]
        assert {file["load"] for file in files} == {"kept"}
        service.get("/trigger_etl?full=true")
        require_features(service)
