"""A story told with docker-py to the engine of DOCKER_HOST; what it asserts is Docker's."""

import io
import tarfile
import threading

import docker

client = docker.from_env()
assert client.ping()
assert client.version()["ApiVersion"] and client.info()["OSType"] == "linux"

# Containers: run, output of both kinds, errors.
lone = {"network_mode": "none"}
assert client.containers.run("busybox", ["echo", "hello"], remove=True, **lone) == b"hello\n"
try:
    client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 4"], remove=True, **lone)
    raise SystemExit("it did not fail")
except docker.errors.ContainerError as error:
    assert error.exit_status == 4 and error.stderr == b"no\n", error
try:
    client.containers.get("nosuch")
    raise SystemExit("it is there")
except docker.errors.NotFound as error:
    assert error.explanation == "No such container: nosuch", error.explanation

container = client.containers.run(
    "busybox",
    ["sh", "-c", "echo started; trap 'exit 9' TERM; while :; do sleep 0.05; done"],
    name="py",
    detach=True,
    labels={"told": "by-python"},
    environment={"WORD": "value"},
    mem_limit="64m",
    stop_signal="SIGTERM",
    **lone,
)
assert [it.name for it in client.containers.list(filters={"label": "told=by-python"})] == ["py"]
assert container.attrs["HostConfig"]["Memory"] == 64 << 20
for line in container.logs(stream=True, follow=True):
    assert line == b"started\n", line
    break

# Commands, with their outputs apart and together.
code, output = container.exec_run(["sh", "-c", "echo $WORD; echo error >&2; exit 3"], demux=True)
assert (code, output) == (3, (b"value\n", b"error\n")), (code, output)
code, output = container.exec_run(["sh", "-c", "stty size; tty"], tty=True)
assert code == 0 and b"/dev/pts/" in output, output
code, pieces = container.exec_run("sh -c 'echo a; echo b'", stream=True)
assert b"".join(pieces) == b"a\nb\n"

# Files, both ways.
buffer = io.BytesIO()
with tarfile.open(fileobj=buffer, mode="w") as tar:
    entry = tarfile.TarInfo("sent")
    entry.size, entry.uid, entry.mode = 5, 1234, 0o640
    tar.addfile(entry, io.BytesIO(b"bytes"))
assert container.put_archive("/tmp", buffer.getvalue())
assert container.exec_run("stat -c '%u %a %s' /tmp/sent").output == b"1234 640 5\n"
pieces, stat = container.get_archive("/tmp/sent")
assert (stat["name"], stat["size"], stat["mode"] & 0o777) == ("sent", 5, 0o640), stat
with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
    assert tar.extractfile("sent").read() == b"bytes"
assert {"Path": "/tmp/sent", "Kind": 1} in container.diff()

# What is going on.
assert any("sleep" in row[-1] or "sh" in row[-1] for row in container.top()["Processes"])
stats = container.stats(stream=False)
assert stats["pids_stats"]["current"] >= 1 and stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0, stats
seen = []
events = client.events(decode=True, filters={"container": container.id})
thread = threading.Thread(target=lambda: [seen.append(event["Action"]) for event in events])
thread.start()

# The end, waited for.
container.pause()
container.reload()
assert container.status == "paused"
container.unpause()
container.update(mem_limit="128m", memswap_limit="256m")
container.stop()
assert container.wait()["StatusCode"] == 9
container.rename("py2")
container.remove()
while "destroy" not in seen:
    thread.join(0.01)
events.close()
wanted = ["pause", "unpause", "update", "kill", "die", "stop", "rename", "destroy"]
assert [action for action in seen if action in wanted] == wanted, seen

# A socket of the container's streams, whose input ends before its output.
container = client.containers.create("busybox", ["cat"], stdin_open=True, **lone)
socket = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
container.start()
socket._sock.sendall(b"typed")
socket._sock.shutdown(1)
frames = b"".join(iter(lambda: socket.read(4096) or b"", b""))
assert frames == b"\x01\0\0\0\0\0\0\x05typed", frames
container.remove(force=True)

# Images.
image = client.images.get("busybox")
assert image.tag("kept", tag="1")
archive = b"".join(client.images.get("kept:1").save(named="kept:1"))
client.images.remove("kept:1")
assert [it.tags for it in client.images.load(archive)][0], "loaded"
client.images.remove("kept:1")
try:
    client.images.get("kept:1")
    raise SystemExit("it is there")
except docker.errors.ImageNotFound:
    pass

# Volumes.
volume = client.volumes.create("pyvol", labels={"a": "b"})
mounts = {"pyvol": {"bind": "/data", "mode": "rw"}}
client.containers.run("busybox", ["sh", "-c", "echo x > /data/f"], volumes=mounts, remove=True, **lone)
assert client.containers.run("busybox", ["cat", "/data/f"], volumes=mounts, remove=True, **lone) == b"x\n"
assert volume.attrs["Labels"] == {"a": "b"}
volume.remove()
print("told")
