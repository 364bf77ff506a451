"""Fetch and build the real servers and rivals that tests run against, into `.services`.

`python tests/support/service_builds.py` makes what is missing and prints the versions; `--check`
only says which toolchains are missing (exit code 1 if any is); `--spark` makes Spark alone, which
is large, and not among the others. Versions are pinned here, and a folder is named after its
version: what was made is used until its pin changes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["MissingToolchain", "deltalake_old", "dynamodb_local", "kafka", "spark", "versitygw"]

VERSITYGW = "1.8.0"
DYNAMODB_LOCAL = "2.6.1"
KAFKA = "4.4.0"
LOG4J = "2.25.3"  # Kafka's jars bring no logging of their own.
# The last release of delta-rs whose DynamoDB commits survived every kill.
DELTALAKE_OLD = "1.5.0"
PYARROW_OLD = "26.0.1"
SPARK = "4.2.0"
DELTA_SPARK = "4.4.0"

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".services"
LAUNCHER = ROOT / "tests" / "services" / "java" / "LocalDynamoDB.java"

# How to see that a tool works, what is made with it, and what to install.
TOOLS = {
    "go": ("version", "versitygw, the S3 server", "Go 1.25 or newer (go.dev/dl)"),
    "java": (
        "-version",
        "DynamoDB Local, Kafka and Spark",
        "a JDK 17 (apt-get install openjdk-17-jdk-headless)",
    ),
    "javac": ("-version", "DynamoDB Local", "a JDK 17 (apt-get install openjdk-17-jdk-headless)"),
    "mvn": ("-version", "DynamoDB Local, Kafka and Spark", "Maven (apt-get install maven)"),
}


class MissingToolchain(AssertionError):
    """A tool that a service is made with is not installed; the message says what to install."""


def missing_tools() -> list[str]:
    """One sentence for each tool that is not there, or does not run."""
    return [
        f"{tool} is missing, which {service} needs: install {package}."
        for tool, (option, service, package) in TOOLS.items()
        if not _runs(tool, option)
    ]


def versitygw() -> Path:
    """The server's program."""

    def make(folder: Path) -> None:
        module = f"github.com/versity/versitygw/cmd/versitygw@v{VERSITYGW}"
        _run(["go", "install", module], env={"GOBIN": str(folder)})

    return _made(f"versitygw-{VERSITYGW}", ["go"], make) / "versitygw"


def dynamodb_local() -> Path:
    """A folder with its jars and native libraries, and our launcher below `classes`."""

    def make(folder: Path) -> None:
        _fetch_jars(folder, f"com.amazonaws:DynamoDBLocal:{DYNAMODB_LOCAL}")
        _run(["javac", "-cp", f"{folder}/*", "-d", str(folder / "classes"), str(LAUNCHER)])

    return _made(f"dynamodb-local-{DYNAMODB_LOCAL}", ["java", "javac", "mvn"], make)


def kafka() -> Path:
    """A folder with the jars of Apache Kafka's broker."""

    def make(folder: Path) -> None:
        logging = f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}"
        _fetch_jars(folder, f"org.apache.kafka:kafka_2.13:{KAFKA}", logging)

    return _made(f"kafka-{KAFKA}", ["java", "mvn"], make)


def deltalake_old() -> Path:
    """A Python that has deltalake 1.5.0, in an environment of its own."""

    def make(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
        _run([*pip, "install", f"deltalake=={DELTALAKE_OLD}", f"pyarrow=={PYARROW_OLD}"])

    return _made(f"deltalake-{DELTALAKE_OLD}", [], make) / "bin" / "python"


def spark() -> tuple[Path, Path]:
    """A Python that has Spark, in an environment of its own, and a folder of Delta's jars."""

    def make(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
        _run([*pip, "install", f"pyspark=={SPARK}"])
        scala = f"delta-spark_{SPARK.rpartition('.')[0]}_2.13"
        _fetch_jars(folder / "all", f"io.delta:{scala}:{DELTA_SPARK}")
        # Spark has the others, in versions of its own.
        (folder / "jars").mkdir()
        for pattern in ("delta-*.jar", "unitycatalog-*.jar"):
            for jar in (folder / "all").glob(pattern):
                jar.rename(folder / "jars" / jar.name)
        shutil.rmtree(folder / "all")

    folder = _made(f"spark-{SPARK}-delta-{DELTA_SPARK}", ["java", "mvn"], make)
    return folder / "bin" / "python", folder / "jars"


def _made(name: str, tools: list[str], make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, made now unless it was made to the end before."""
    folder, done = CACHE / name, CACHE / f"{name}.made"
    if done.exists():
        return folder
    missing = [found for found in missing_tools() if found.split(" ")[0] in tools]
    if missing:
        raise MissingToolchain(" ".join(missing))
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Another process may be making it.
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            print(f"Making {name}; this happens once.", file=sys.stderr, flush=True)
            make(folder)
            done.touch()
    return folder


def _fetch_jars(folder: Path, *artifacts: str) -> None:
    """The jars of `group:name:version` and of all that they need."""
    folder.mkdir(exist_ok=True)
    tags = ("groupId", "artifactId", "version")
    dependencies = "".join(
        "<dependency>"
        + "".join(
            f"<{tag}>{part}</{tag}>" for tag, part in zip(tags, found.split(":"), strict=True)
        )
        + "</dependency>"
        for found in artifacts
    )
    (folder / "pom.xml").write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>neuralake</groupId>"
        "<artifactId>services</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>",
        encoding="utf-8",
    )
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    _run(["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), *goal])


def _runs(tool: str, option: str) -> bool:
    """Found by running it: a name on PATH may be a shim of nothing."""
    try:
        done = subprocess.run([tool, option], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _run(command: list[str], *, env: dict[str, str] | None = None) -> None:
    # What the tools print goes to standard error: ours on standard output is the table.
    subprocess.run(command, check=True, env={**os.environ, **(env or {})}, stdout=sys.stderr)


def _version_of(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def main(arguments: list[str]) -> int:
    if missing := missing_tools():
        print("\n".join(missing), file=sys.stderr)
        return 1
    if "--check" in arguments:
        return 0
    if "--spark" in arguments:
        print(f"  Spark {SPARK} with Delta {DELTA_SPARK}: {spark()[0].relative_to(ROOT)}")
        return 0
    print(f"  {_version_of(['go', 'version'])}; {_version_of(['java', '-version'])}")
    for name, make in [
        (f"versitygw {VERSITYGW}", versitygw),
        (f"DynamoDB Local {DYNAMODB_LOCAL}", dynamodb_local),
        (f"Kafka {KAFKA}", kafka),
        (f"deltalake {DELTALAKE_OLD} with pyarrow {PYARROW_OLD}", deltalake_old),
    ]:
        began_s = time.monotonic()
        path = make().relative_to(ROOT)
        print(f"  {name}: {path} ({time.monotonic() - began_s:.1f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
