"""What is in the image, and what is known against it: python .ci/supply.py PROGRAMS FOLDER

PROGRAMS is the folder of cyclonedx-py and pip-audit. Writes sbom.json (CycloneDX) and vulnerabilities.json, both of
docker/locks/image.txt, into FOLDER. Exit code 1: a package has a known vulnerability, or was looked up in vain.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "docker" / "locks" / "image.txt"


def judged(report: dict[str, Any]) -> tuple[int, str]:
    """Exit code and words of pip-audit's report. Without an answer it skips a package and ends with success."""
    packages = report["dependencies"]
    unknown = [each["name"] for each in packages if "skip_reason" in each]
    if len(unknown) == len(packages):
        return 0, "SKIPPED: no database of vulnerabilities answers for any package"
    found = [
        f"{each['name']} {each['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'no version'}"
        for each in packages
        for known in each.get("vulns", [])
    ]
    found += [f"{name}: nothing is known of it" for name in unknown]
    return (1, "\n".join(found)) if found else (0, f"nothing is known against {len(packages)} packages")


def main(programs: Path, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    sbom, report = folder / "sbom.json", folder / "vulnerabilities.json"
    subprocess.run(
        [programs / "cyclonedx-py", "requirements", LOCK, "--of", "JSON", "-o", sbom], check=True, stderr=sys.stdout
    )
    sys.stdout.write(f"{sbom}: {len(json.loads(sbom.read_text())['components'])} components\n")
    report.unlink(missing_ok=True)
    command = [programs / "pip-audit", "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    done = subprocess.run([*command, "-r", LOCK, "-f", "json", "-o", report], capture_output=True, text=True)
    if not report.exists():  # it ends with 1 for a vulnerability and for a failure of its own alike
        sys.stdout.write(f"SKIPPED: pip-audit has not looked: {done.stderr[-500:]}\n")
        return 0
    code, words = judged(json.loads(report.read_text()))
    sys.stdout.write(f"{words}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
