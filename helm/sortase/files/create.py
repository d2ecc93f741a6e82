"""Makes the RayJob of a schedule: python create.py rayjob.json CRONJOB POLICY HISTORY

It runs in a pod of the CronJob, whose account may read, make and delete RayJobs. The CronJob's own policy knows only
that pod, which is over at once: POLICY (Forbid, Replace or Allow) is kept here, over RayJobs, and of finished ones the
newest HISTORY stay. The CronJob owns what is made: both go together.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
OVER = ("Complete", "Failed", "ValidationFailed")


class Cluster:
    def __init__(self):
        self.namespace = (ACCOUNT / "namespace").read_text().strip()
        self.trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))

    def ask(self, verb, group, path, body=None):
        request = urllib.request.Request(
            f"https://kubernetes.default.svc/apis/{group}/namespaces/{self.namespace}/{path}",
            method=verb,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, context=self.trusted, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            sys.exit(f"the API server refused {verb} {path} ({error.code}): {error.read().decode()[:2000]}")

    def rayjobs(self, verb, path="", body=None):
        return self.ask(verb, "ray.io/v1", f"rayjobs{path}", body)


def is_over(job):
    return job.get("status", {}).get("jobDeploymentStatus") in OVER


def main(rayjob, cronjob, policy, history):
    cluster = Cluster()
    job = json.loads(Path(rayjob).read_text())
    owner = cluster.ask("GET", "batch/v1", f"cronjobs/{cronjob}")["metadata"]
    job["metadata"]["ownerReferences"] = [
        {"apiVersion": "batch/v1", "kind": "CronJob", "name": owner["name"], "uid": owner["uid"]}
    ]
    listed = cluster.rayjobs("GET")["items"]
    earlier = [
        each
        for each in listed
        if any(reference["uid"] == owner["uid"] for reference in each["metadata"].get("ownerReferences", []))
    ]
    earlier.sort(key=lambda each: each["metadata"]["creationTimestamp"])
    running = [each["metadata"]["name"] for each in earlier if not is_over(each)]
    finished = [each["metadata"]["name"] for each in earlier if is_over(each)]
    for name in finished[: max(0, len(finished) - int(history))]:
        cluster.rayjobs("DELETE", f"/{name}")
        print(f"removed finished RayJob {name}")
    if running and policy == "Forbid":
        print(f"nothing made: {', '.join(running)} is not over")
        return
    if policy == "Replace":
        for name in running:
            cluster.rayjobs("DELETE", f"/{name}")
            print(f"removed RayJob {name}, which was not over")
    print(f"made RayJob {cluster.rayjobs('POST', body=job)['metadata']['name']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
