"""Looks the pinned packages up among known vulnerabilities; without a network it says so, and fails with --strict."""

import json
import subprocess
import sys
from pathlib import Path

PINNED = Path(__file__).parent / "dev.txt"
COMMAND = [
    sys.executable,
    "-m",
    "pip_audit",
    "--requirement",
    str(PINNED),
    "--require-hashes",
    "--disable-pip",
    "--progress-spinner=off",
    "--timeout=10",
    "--format=json",
]

NO_NETWORK = ("ConnectionError", "Connection refused", "Max retries", "Timeout", "timed out", "ServiceError")


def main() -> int:
    """Return 1 when a pinned package is known to be vulnerable."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        if any(sign in done.stderr for sign in NO_NETWORK):
            sys.stdout.write("pip-audit: not checked, the vulnerability service was not reached\n")
            return int("--strict" in sys.argv)
        sys.stdout.write(f"pip-audit failed:\n{done.stderr}")
        return 1
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        ids = ", ".join(each["id"] for each in package["vulns"])
        sys.stdout.write(f"{package['name']} {package['version']}: {ids}\n")
    sys.stdout.write(f"pip-audit: {len(packages)} packages, {len(vulnerable)} vulnerable\n")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
