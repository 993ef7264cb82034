"""A container's streams over a WebSocket."""

import os
import socket

import docker
import websocket


def attach(path):
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(os.environ["DOCKER_HOST"].removeprefix("unix://"))
    stream.settimeout(20)
    return websocket.create_connection("ws://engine" + path, socket=stream)


def hear(connection, length):
    heard = b""
    while len(heard) < length:
        opcode, data = connection.recv_data()
        assert opcode == websocket.ABNF.OPCODE_BINARY, opcode
        heard += data
    return heard


client = docker.from_env()
lone = client.api.create_host_config(network_mode="none")
config = client.api.create_container_config("busybox", "cat", stdin_open=True, host_config=lone)
# Who leaves does not end the input of the others.
config["StdinOnce"] = False
container = client.containers.get(client.api.create_container_from_config(config)["Id"])
both = attach(f"/v1.41/containers/{container.id}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1")
container.start()
for word in [b"short\n", b"x" * 125, b"y" * 126, b"z" * 70_000]:
    both.send_binary(word)
    assert hear(both, len(word)) == word
only = attach(f"/v1.41/containers/{container.id}/attach/ws?stream=1&stdout=1")
# Who attaches may be answered a moment before it hears.
only.settimeout(1)
for _ in range(20):
    both.send_binary(b"to all\n")
    assert hear(both, 7) == b"to all\n"
    try:
        assert hear(only, 7) == b"to all\n"
        break
    except websocket.WebSocketTimeoutException:
        continue
else:
    raise AssertionError("it hears nothing")
only.settimeout(20)
leaving = attach(f"/v1.41/containers/{container.id}/attach/ws?stream=1&stdout=1")
leaving.close(timeout=20)
container.kill()
for connection in both, only:
    frame = connection.recv_frame()
    assert frame.opcode == websocket.ABNF.OPCODE_CLOSE, frame
try:
    attach(f"/v1.41/containers/{container.id[:-1]}0/attach/ws")
    raise AssertionError("a container that is not there")
except websocket.WebSocketBadStatusException as refused:
    assert refused.status_code in (400, 404), refused
container.remove()
print("told")
