"""A story told with testcontainers to the engine of DOCKER_HOST: what its users' tests do."""

import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs

SERVE = "mkdir /www && echo served > /www/word && echo ready && exec httpd -f -p 80 -h /www"

with Network() as network:
    web = DockerContainer("busybox").with_command(["sh", "-c", SERVE]).with_exposed_ports(80)
    web = web.with_network(network).with_network_aliases("web").with_env("WORD", "value")
    with web:
        wait_for_logs(web, "ready", timeout=60)
        port = web.get_exposed_port(80)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/word", timeout=20) as page:
            assert page.read() == b"served\n"
        code, output = web.exec(["sh", "-c", "echo $WORD"])
        assert (code, output) == (0, b"value\n"), (code, output)
        client = DockerContainer("busybox").with_network(network)
        client = client.with_command(["timeout", "20", "wget", "-q", "-O", "-", "http://web/word"])
        with client:
            wait_for_logs(client, "served", timeout=60)
print("told")
