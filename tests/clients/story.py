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
container.exec_run("mkdir -p /var/sent/deep")
url = client.api._url("/containers/{0}/archive", container.id)
refused = client.api._put(url, params={"path": "/var", "noOverwriteDirNonDir": 1}, data=buffer.getvalue())
assert not refused.ok and "cannot overwrite directory" in refused.text, refused.text
assert container.put_archive("/var", buffer.getvalue())
assert container.exec_run("cat /var/sent").output == b"bytes"

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

# A commit with a configuration of its own.
made = client.containers.create("busybox", ["true"], environment={"A": "1", "B": "2"}, **lone)
image = made.commit("pycommitted", conf={"Env": ["B=3"], "Cmd": ["env"], "Labels": {"by": "py"}})
assert image.labels == {"by": "py"} and image.attrs["Config"]["Cmd"] == ["env"], image.attrs
env = client.containers.run("pycommitted", remove=True, **lone)
assert b"A=1" in env and b"B=3" in env and b"B=2" not in env, env
made.remove()
client.images.remove("pycommitted", force=True)

# Networks, and a published port.
pools = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.213.9.0/24", gateway="10.213.9.1")])
network = client.networks.create("pynet", ipam=pools, labels={"a": "b"}, internal=True)
assert [it.name for it in client.networks.list(names=["pynet"])] == ["pynet"]
assert network.attrs["IPAM"]["Config"][0]["Subnet"] == "10.213.9.0/24" and network.attrs["Internal"]
sleeper = client.containers.run("busybox", ["sleep", "1000"], name="pysleeper", detach=True, network="pynet", ports={"80/tcp": None})
sleeper.reload()
assert sleeper.attrs["NetworkSettings"]["Networks"]["pynet"]["IPAddress"] == "10.213.9.2"
network.disconnect(sleeper)
network.connect(sleeper, aliases=["alias"], ipv4_address="10.213.9.50")
sleeper.reload()
assert sleeper.attrs["NetworkSettings"]["Networks"]["pynet"]["IPAddress"] == "10.213.9.50"
pinged = client.containers.run("busybox", ["ping", "-c", "1", "-w", "20", "alias"], network="pynet", remove=True)
assert b"10.213.9.50" in pinged, pinged
try:
    network.remove()
    raise SystemExit("it is gone")
except docker.errors.APIError as error:
    assert error.status_code == 403 and "has active endpoints" in error.explanation, error
sleeper.remove(force=True)
network.remove()
try:
    client.networks.get("pynet")
    raise SystemExit("it is there")
except docker.errors.NotFound:
    pass

# Builds.
dockerfile = b"FROM busybox\nARG WORD\nRUN echo $WORD > /made\nCMD cat /made\n"
image, lines = client.images.build(fileobj=io.BytesIO(dockerfile), tag="pybuilt", buildargs={"WORD": "value"}, rm=True)
lines = list(lines)
assert any(line.get("stream", "").startswith("Step 3/4 : RUN") for line in lines), lines
assert any(line.get("aux", {}).get("ID") == image.id for line in lines), lines
assert client.containers.run("pybuilt", remove=True, **lone) == b"value\n"
try:
    client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 5\n"))
    raise SystemExit("it did not fail")
except docker.errors.BuildError as error:
    assert "returned a non-zero code: 5" in error.msg, error.msg
    assert list(error.build_log)[-1]["errorDetail"]["code"] == 5
client.images.remove("pybuilt", force=True)
assert "CachesDeleted" in client.api.prune_builds()
print("told")
