"""A service with py-eureka-client: registers, waits until it discovers PROBE, leaves when told.

Usage: python.py REGISTRY_URL OWN_PORT
Prints one word per step: `registered`, `seen HOST:PORT`, `left`.
"""

import sys
import time

import py_eureka_client.eureka_client as eureka_client

LIMIT_SECONDS = 30


def main() -> None:
    url, port = sys.argv[1], int(sys.argv[2])
    client = eureka_client.init(
        eureka_server=url,
        app_name="interop-python",
        instance_host="127.0.0.1",
        instance_ip="127.0.0.1",
        instance_port=port,
        renewal_interval_in_secs=1,
        duration_in_secs=3,
        metadata={"zone": "z1", "a_b": "c"},
    )
    print("registered", flush=True)
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        application = client.applications.get_application("PROBE")
        instances = application.up_instances if application else []
        if instances:
            print(f"seen {instances[0].ipAddr}:{instances[0].port.port}", flush=True)
            break
        time.sleep(0.1)
    sys.stdin.readline()
    eureka_client.stop()
    print("left", flush=True)


main()
