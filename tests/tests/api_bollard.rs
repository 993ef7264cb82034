//! bollard, the client of the API in Rust, on `ply serve` and on Docker's own engine: every answer must fit its types.

use std::collections::HashMap;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::ContainerCreateBody;
use bollard::models::EndpointIpamConfig;
use bollard::models::EndpointSettings;
use bollard::models::ExecConfig;
use bollard::models::HostConfig;
use bollard::models::Ipam;
use bollard::models::IpamConfig;
use bollard::models::NetworkConnectRequest;
use bollard::models::NetworkCreateRequest;
use bollard::models::PortBinding;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters as query;
use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;
use tests::Ply;
use tests::Server;

/// Puts the pieces of one kind together.
fn said(pieces: &[LogOutput], is_error: bool) -> String {
    let pieces = pieces.iter().filter_map(|piece| match piece {
        LogOutput::StdOut { message } if !is_error => Some(message),
        LogOutput::StdErr { message } if is_error => Some(message),
        _ => None,
    });
    let bytes: Vec<u8> = pieces.flat_map(|piece| piece.to_vec()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

async fn container(docker: &Docker, name: &str, command: &[&str], host: HostConfig) -> String {
    let options = query::CreateContainerOptionsBuilder::default().name(name);
    let body = ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: words(command),
        labels: Some(HashMap::from([("told".to_owned(), name.to_owned())])),
        // Docker publishes only what is exposed too.
        exposed_ports: words(&["80/tcp"]),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    };
    let created = docker.create_container(Some(options.build()), body).await;
    created.expect("created").id
}

async fn life(docker: &Docker) {
    let host = HostConfig {
        network_mode: Some("none".to_owned()),
        memory: Some(64 << 20),
        ..HostConfig::default()
    };
    let script = "echo out; echo error >&2; trap 'exit 6' TERM; while :; do sleep 0.05; done";
    let id = container(docker, "bollard", &["sh", "-c", script], host).await;
    docker
        .start_container(&id, None::<query::StartContainerOptions>)
        .await
        .expect("started");
    let filters = HashMap::from([("label", vec!["told=bollard"])]);
    let options = query::ListContainersOptionsBuilder::default().filters(&filters);
    let listed = docker.list_containers(Some(options.build())).await;
    let listed = listed.expect("a list");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id.as_ref(), Some(&id));
    assert_eq!(listed[0].names, words(&["/bollard"]));
    let inspected = docker
        .inspect_container("bollard", None::<query::InspectContainerOptions>)
        .await
        .expect("a container");
    let memory = inspected.host_config.and_then(|host| host.memory);
    assert_eq!(memory, Some(64 << 20));
    assert_eq!(inspected.state.and_then(|it| it.running), Some(true));

    let options = query::LogsOptionsBuilder::default()
        .stdout(true)
        .stderr(true)
        .follow(true);
    let logs = docker.logs("bollard", Some(options.build()));
    let logs: Vec<LogOutput> = logs.take(2).try_collect().await.expect("logs");
    assert_eq!(said(&logs, false), "out\n");
    assert_eq!(said(&logs, true), "error\n");

    let exec = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: words(&["sh", "-c", "echo inside; exit 4"]),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(&id, exec).await.expect("an exec").id;
    let started = docker.start_exec(&exec, None).await.expect("started");
    let StartExecResults::Attached { output, .. } = started else {
        panic!("it is not attached");
    };
    let output: Vec<LogOutput> = output.try_collect().await.expect("output");
    assert_eq!(said(&output, false), "inside\n");
    let exec = docker.inspect_exec(&exec).await.expect("an exec");
    assert_eq!(exec.exit_code, Some(4));

    let options = query::StatsOptionsBuilder::default().stream(false);
    let stats = docker.stats(&id, Some(options.build())).next().await;
    let stats = stats.expect("one").expect("stats");
    assert!(stats.pids_stats.and_then(|it| it.current).unwrap_or(0) >= 1);
    let top = docker.top_processes(&id, None::<query::TopOptions>).await;
    assert!(
        !top.expect("processes")
            .processes
            .unwrap_or_default()
            .is_empty()
    );

    docker
        .stop_container(&id, None::<query::StopContainerOptions>)
        .await
        .expect("stopped");
    let waited = docker
        .wait_container(&id, None::<query::WaitContainerOptions>)
        .next()
        .await;
    // A code that is not zero is an error of bollard's.
    match waited.expect("an answer") {
        Err(Error::DockerContainerWaitError { code, .. }) => assert_eq!(code, 6),
        other => panic!("{other:?}"),
    }
    docker
        .remove_container(&id, None::<query::RemoveContainerOptions>)
        .await
        .expect("removed");
    let missing = docker
        .inspect_container("bollard", None::<query::InspectContainerOptions>)
        .await;
    match missing.expect_err("it is gone") {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => assert_eq!(
            (status_code, message.as_str()),
            (404, "No such container: bollard")
        ),
        other => panic!("{other:?}"),
    }
}

async fn networks_and_volumes(docker: &Docker) {
    let pool = IpamConfig {
        subnet: Some("10.213.10.0/24".to_owned()),
        ..IpamConfig::default()
    };
    let asked = NetworkCreateRequest {
        name: "rusty".to_owned(),
        ipam: Some(Ipam {
            config: Some(vec![pool]),
            ..Ipam::default()
        }),
        ..NetworkCreateRequest::default()
    };
    let network = docker.create_network(asked).await.expect("a network").id;
    let volume = VolumeCreateRequest {
        name: Some("rustyvol".to_owned()),
        ..VolumeCreateRequest::default()
    };
    let volume = docker.create_volume(volume).await.expect("a volume");
    assert_eq!(volume.name, "rustyvol");
    let binding = PortBinding {
        host_ip: Some("127.0.0.1".to_owned()),
        host_port: None,
    };
    let host = HostConfig {
        network_mode: Some("rusty".to_owned()),
        binds: words(&["rustyvol:/data"]),
        port_bindings: Some(HashMap::from([("80/tcp".to_owned(), Some(vec![binding]))])),
        ..HostConfig::default()
    };
    let id = container(docker, "rust", &["sleep", "1000"], host).await;
    docker
        .start_container(&id, None::<query::StartContainerOptions>)
        .await
        .expect("started");
    let inspected = docker
        .inspect_network("rusty", None::<query::InspectNetworkOptions>)
        .await
        .expect("a network");
    assert_eq!(inspected.id.as_ref(), Some(&network));
    let there = inspected.containers.unwrap_or_default();
    let address = there.get(&id).and_then(|it| it.ipv4_address.as_deref());
    assert_eq!(address, Some("10.213.10.2/24"));
    let inspected = docker
        .inspect_container(&id, None::<query::InspectContainerOptions>)
        .await
        .expect("a container");
    let ports = inspected.network_settings.and_then(|it| it.ports);
    let bound = ports.unwrap_or_default().remove("80/tcp").flatten();
    let bound = bound.expect("it is published");
    assert!(bound[0].host_port.as_ref().is_some_and(|it| it != "0"));
    docker
        .disconnect_network(
            "rusty",
            bollard::models::NetworkDisconnectRequest {
                container: id.clone(),
                force: None,
            },
        )
        .await
        .expect("disconnected");
    let wanted = EndpointIpamConfig {
        ipv4_address: Some("10.213.10.99".to_owned()),
        ..EndpointIpamConfig::default()
    };
    let asked = NetworkConnectRequest {
        container: id.clone(),
        endpoint_config: Some(EndpointSettings {
            ipam_config: Some(wanted),
            ..EndpointSettings::default()
        }),
    };
    docker
        .connect_network("rusty", asked)
        .await
        .expect("connected");
    let listed = docker
        .list_containers(None::<query::ListContainersOptions>)
        .await
        .expect("a list");
    let networks = listed[0]
        .network_settings
        .clone()
        .and_then(|it| it.networks);
    let networks = networks.unwrap_or_default();
    let address = networks["rusty"].ip_address.as_deref();
    assert_eq!(address, Some("10.213.10.99"));
    let force = query::RemoveContainerOptionsBuilder::default().force(true);
    docker
        .remove_container(&id, Some(force.build()))
        .await
        .expect("removed");
    docker.remove_network("rusty").await.expect("removed");
    docker
        .remove_volume("rustyvol", None::<query::RemoveVolumeOptions>)
        .await
        .expect("removed");
}

/// Returns a context of a Dockerfile alone.
fn context(dockerfile: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "Dockerfile", dockerfile.as_bytes())
        .expect("written");
    tar.into_inner().expect("written")
}

async fn build_and_events(docker: &Docker) {
    let options = query::BuildImageOptionsBuilder::default()
        .t("rustbuilt")
        .dockerfile("Dockerfile");
    let tar = context("FROM busybox\nRUN echo made > /made\nENV A=b\n");
    let tar = Some(bollard::body_full(tar.into()));
    let told: Vec<_> = docker
        .build_image(options.build(), None, tar)
        .try_collect()
        .await
        .expect("built");
    let streams = told.iter().filter_map(|info| info.stream.as_deref());
    let streams: String = streams.collect();
    assert!(streams.contains("Step 2/3 : RUN echo made"), "{streams}");
    let built = told.iter().find_map(|info| info.aux.clone()?.id);
    let image = docker.inspect_image("rustbuilt").await.expect("an image");
    assert_eq!(built, image.id);
    let history = docker.image_history("rustbuilt").await.expect("a history");
    assert!(history[0].created_by.contains("A=b"), "{history:?}");
    let failing = context("FROM busybox\nRUN exit 9\n");
    let options = query::BuildImageOptionsBuilder::default().dockerfile("Dockerfile");
    let failed = docker
        .build_image(
            options.build(),
            None,
            Some(bollard::body_full(failing.into())),
        )
        .try_collect::<Vec<_>>()
        .await
        .expect_err("it fails");
    assert!(
        format!("{failed:?}").contains("returned a non-zero code: 9"),
        "{failed:?}"
    );
    docker
        .remove_image("rustbuilt", None::<query::RemoveImageOptions>, None)
        .await
        .expect("removed");
    let usage = docker.df(None::<query::DataUsageOptions>).await;
    usage.expect("usage");
    docker.info().await.expect("info");
    docker.version().await.expect("a version");
    let events = docker.events(Some(
        query::EventsOptionsBuilder::default()
            .since("0")
            .until(&now())
            .build(),
    ));
    let events: Vec<_> = events.try_collect().await.expect("events");
    let actions: Vec<&str> = events
        .iter()
        .filter_map(|it| it.action.as_deref())
        .collect();
    for action in ["create", "start", "die", "destroy", "connect", "tag"] {
        assert!(actions.contains(&action), "{action}: {actions:?}");
    }
}

fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    (now.expect("after 1970").as_secs() + 1).to_string()
}

fn tell(server: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let path = server.socket().to_string_lossy();
        let docker = Docker::connect_with_unix(&path, 120, bollard::API_DEFAULT_VERSION)
            .expect("a client")
            .negotiate_version()
            .await
            .expect("a version");
        assert_eq!(docker.ping().await.expect("it answers"), "OK");
        life(&docker).await;
        networks_and_volumes(&docker).await;
        build_and_events(&docker).await;
    });
}

#[test]
fn bollard_is_told_what_docker_tells_it() {
    let ply = Ply::with_busybox();
    tell(&Server::start(&ply));
    tell(&Server::of_docker());
}
