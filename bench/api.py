"""Measures the migration status endpoint beside a bare Django view that runs the same query without a token.

Both are served by granian on loopback and asked by wrk, in turns, on a throw-away server; wrk shares the processors.
"""

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from background_migrations.registry_client import TokenSigner
from bench.measures import Measure, arguments, report
from bench.servers import migrated_server, url_of
from registry_project import demo_tokens
from tests.e2e.site import served

WORKERS, THREADS = 2, 4
CONNECTIONS = 16
ROUNDS = 5
WARM_UP_SECONDS = 2
LEAST_SHARE = 0.6  # of the bare view's requests per second
ACCESS = {"type": "registry", "name": "migrations", "actions": ["*"]}
TOKEN_SECONDS = 3_600
PATHS = {"bare view": "bare/", "status": "gitlab/v1/admin/db/migrations/status/"}
MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1_000.0}


@dataclass(frozen=True)
class Load:
    """What one run of wrk measured."""

    requests_per_second: float
    p99_milliseconds: float


def main() -> int:
    """Measure, print, and fail when the endpoint is too slow."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seconds", type=int, default=5, help="of each run of wrk (5)")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian: apt-get install wrk")
    with migrated_server() as server, tempfile.TemporaryDirectory() as keys:
        environment = demo_tokens.environment(Path(keys))
        signer = TokenSigner((Path(keys) / demo_tokens.KEY).read_text(), issuer=demo_tokens.ISSUER)
        token = signer.token([ACCESS], lifetime_seconds=TOKEN_SECONDS)
        with served(
            url_of(server), environment, application="bench.api_server:application", workers=WORKERS, threads=THREADS
        ) as site:
            for path in PATHS.values():
                _load(site.url + path, token, seconds=WARM_UP_SECONDS)
            rounds = [
                {name: _load(site.url + path, token, seconds=options.seconds) for name, path in PATHS.items()}
                for _ in range(ROUNDS)
            ]
    return report(_measures(rounds), as_json=options.json)


def _measures(rounds: list[dict[str, Load]]) -> list[Measure]:
    ratio = statistics.median(
        each["status"].requests_per_second / each["bare view"].requests_per_second for each in rounds
    )
    measures: list[Measure] = []
    for name in PATHS:
        rate = statistics.median(each[name].requests_per_second for each in rounds)
        p99 = statistics.median(each[name].p99_milliseconds for each in rounds)
        measure = Measure(name, rate, "requests/s")
        if name == "status":
            measure = replace(measure, limit=LEAST_SHARE, ratio=ratio, at_least=True)
        measures += [measure, Measure(f"{name}, p99 at {CONNECTIONS} connections", p99, "ms")]
    return measures


def _load(url: str, token: str, *, seconds: int) -> Load:
    """Ask for some seconds. Raises SystemExit when an answer is not 200."""
    command = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s", "--latency"]
    command += ["--header", f"Authorization: bearer {token}", url]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", printed)
    if "Non-2xx" in printed or not (rate and p99):
        raise SystemExit(f"{url} does not answer as it should:\n{printed}")
    return Load(float(rate[1]), float(p99[1]) * MILLISECONDS[p99[2]])


if __name__ == "__main__":
    sys.exit(main())
