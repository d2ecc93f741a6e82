"""An S3 server, and one in front of it whose faults come by standard input: ``[method, arguments, options]`` a line.

It prints its address first, and a line after each command.
"""

from __future__ import annotations

import json
import logging
import sys

import boto3
from moto.server import ThreadedMotoServer

from faulty_s3 import faulty_s3


def main(bucket: str) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket=bucket)
    with faulty_s3(f"http://{host}:{port}") as faulty:
        print(faulty.address, flush=True)
        for line in sys.stdin:
            name, arguments, options = json.loads(line)
            if name == "delay":
                faulty.delay = arguments[0]
            elif name == "conditional":
                faulty.conditional = arguments[0]
            elif name == "heal":
                faulty.go_on.set()
                faulty.heal()
            else:
                getattr(faulty, name)(*arguments, **options)
            print("done", flush=True)
    server.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
