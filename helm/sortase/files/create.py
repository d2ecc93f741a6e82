"""Makes the RayJob of a schedule: python create.py rayjob.json, in a pod whose account may create RayJobs."""

import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def main() -> None:
    namespace, token = ((ACCOUNT / name).read_text().strip() for name in ("namespace", "token"))
    request = urllib.request.Request(
        f"https://kubernetes.default.svc/apis/ray.io/v1/namespaces/{namespace}/rayjobs",
        data=Path(sys.argv[1]).read_bytes(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(request, context=trusted, timeout=60) as answer:
            sys.stdout.write(f"created RayJob {json.load(answer)['metadata']['name']}\n")
    except urllib.error.HTTPError as error:
        sys.exit(f"the API server refused the RayJob ({error.code}): {error.read().decode()[:2000]}")


if __name__ == "__main__":
    main()
