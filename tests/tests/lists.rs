//! What lists find and show, what things take on the disk, and what prunes spare.

use tests::Ply;
use tests::Server;
use tests::free_port;

#[test]
fn published_ports_are_found_by_the_host_s_number() {
    let ply = Ply::with_busybox();
    let ports = [free_port(), free_port()];
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let tcp = format!("{}:80", ports[0]);
    let udp = format!("{}:81/udp", ports[1]);
    let run = ["run", "-d", "--name", "c1", "-p", &tcp, "-p", &udp];
    ply.run(&[&run[..], &["busybox", "sleep", "1000"]].concat())
        .ok();
    let found = |filter: &str| {
        let filter = format!("publish={filter}");
        let names = ply.run(&["ps", "--format", "{{.Names}}", "--filter", &filter]);
        names.ok() == "c1"
    };
    let number: u16 = ports[0].parse().expect("a port");
    assert!(found(&ports[0]) && found(&format!("{}/tcp", ports[0])));
    assert!(found(&format!("{}-{}", number - 1, number)));
    assert!(found(&format!("{}/udp", ports[1])));
    assert!(!found(&format!("{}/udp", ports[0])) && !found(&ports[1]));
    assert!(!found("80") && !found("81/udp"));
    ply.remove_all();
}

#[test]
fn lists_name_the_image_that_a_container_is_of_and_quote_its_command() {
    let ply = Ply::with_busybox();
    let id = ply.run(&["images", "-q", "busybox"]).ok().to_owned();
    let create = ["create", "--name", "c1", "--runtime", "runc", "busybox"];
    let script = "echo a\necho \"b\"\tc\\d";
    ply.run(&[&create[..], &["sh", "-c", script]].concat()).ok();
    let ps = |template: &str| {
        let ps = ["ps", "-a", "-f", "name=c1", "--no-trunc", "--format"];
        ply.run(&[&ps[..], &[template]].concat()).ok().to_owned()
    };
    assert_eq!(ps("{{.Image}}"), "busybox");
    assert_eq!(ps("{{.Command}}"), r#""sh -c 'echo a\necho \"b\"\tc\\d'""#);
    let df = ply.run(&["system", "df", "-v"]);
    assert!(df.ok().contains(r#" "sh -c 'echo a\necho …" "#), "{df:?}");
    // The name leads to what a commit makes, and then nowhere.
    for verb in [&["commit", "c1", "busybox"][..], &["rmi", "busybox"]] {
        ply.run(verb).ok();
        let shown = ply.run(&["ps", "-a", "--format", "{{.Image}}"]);
        assert_eq!(shown.ok(), id);
        assert!(ps("{{.Image}}").starts_with(&format!("sha256:{id}")));
    }
    let server = Server::start(&ply);
    let listed = server.docker(&["ps", "-a", "--format", "{{.Image}}"]);
    assert_eq!(listed.ok(), id);
    let refused = ply.run(&["create", "--runtime", "nosuch", &id]);
    refused.fails(125, "unknown or invalid runtime name: nosuch");
}

#[test]
fn prunes_spare_what_has_a_label_and_are_told() {
    let ply = Ply::with_busybox();
    let server = Server::start(&ply);
    let docker = |arguments: &[&str]| {
        let client = server.docker(arguments);
        client.ok().to_owned()
    };
    let create = |name: &str, label: &str| {
        ply.run(&["create", "--name", name, "--label", label, "busybox"])
            .ok();
        let change = format!("LABEL {label}");
        ply.run(&["commit", "-c", &change, name]).ok();
    };
    create("kept", "keep=yes");
    create("gone", "keep=no");
    let names = || {
        ply.run(&["ps", "-a", "--format", "{{.Names}}"])
            .ok()
            .to_owned()
    };
    let images = || ply.run(&["images", "-q"]).ok().lines().count();
    ply.run(&["container", "prune", "-f", "--filter", "label!=keep=yes"])
        .ok();
    assert_eq!(names(), "kept");
    ply.run(&["image", "prune", "-f", "--filter", "label!=keep=yes"])
        .ok();
    assert_eq!(images(), 2);
    create("gone", "keep=no");
    ply.run(&["system", "prune", "-f", "--filter", "label!=keep=yes"])
        .ok();
    assert_eq!((names().as_str(), images()), ("kept", 2));
    create("gone", "keep=no");
    docker(&["container", "prune", "-f", "--filter", "label!=keep=yes"]);
    docker(&["image", "prune", "-f", "--filter", "label!=keep=yes"]);
    assert_eq!((names().as_str(), images()), ("kept", 2));
    ply.run(&["ps", "--filter", "label!=a"])
        .fails(1, "Invalid filter 'label!'");
    for kind in ["volume", "network", "builder"] {
        ply.run(&[kind, "prune", "-f"]).ok();
    }
    let events = [
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "-f",
        "event=prune",
    ];
    let format = ["--format", "{{.Type}} {{.Actor.Attributes.reclaimed}}"];
    let told = ply.run(&[&events[..], &format].concat());
    for kind in ["container", "image", "volume", "network", "builder"] {
        assert!(told.ok().contains(&format!("{kind} 0")), "{kind}: {told:?}");
    }
    let plain = ply.run(&events);
    assert!(
        plain.ok().contains("network prune  (reclaimed=0)"),
        "{plain:?}"
    );
    ply.run(&["events", "--since", "1700000001", "--until", "1700000000.5"])
        .fails(
            1,
            "`since` time (1700000001.000000000) cannot be after `until` time (1700000000.500000000)",
        );
}

#[test]
fn containers_are_found_by_their_networks_ids() {
    let ply = Ply::with_busybox();
    ply.run(&["network", "create", "n1"]).ok();
    ply.run(&["create", "--name", "c1", "--network", "n1", "busybox"])
        .ok();
    ply.run(&["create", "--name", "c2", "--network", "none", "busybox"])
        .ok();
    let id = ply.run(&["network", "inspect", "-f", "{{.Id}}", "n1"]);
    for network in ["n1", id.ok(), &id.ok()[..12]] {
        let filter = format!("network={network}");
        let found = ply.run(&["ps", "-a", "--format", "{{.Names}}", "--filter", &filter]);
        assert_eq!(found.ok(), "c1", "{network}");
    }
    ply.remove_all();
}

#[test]
fn inspect_shows_what_it_can_before_it_says_what_it_cannot() {
    let ply = Ply::with_busybox();
    ply.run(&["create", "--name", "c1", "busybox"]).ok();
    let inspect = ["inspect", "-f", "{{.State.Status}}"];
    let shown = ply.run(&[&inspect[..], &["busybox", "nosuch", "c1"]].concat());
    assert_eq!((shown.code, shown.out.as_str()), (1, "created\n"));
    let lines: Vec<&str> = shown.err.lines().collect();
    assert!(
        lines[0].contains("map has no entry for key \"State\""),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["Error: No such object: nosuch"]);
    let none = ply.run(&[&inspect[..], &["busybox"]].concat());
    assert_eq!((none.code, none.out.as_str()), (1, "\n"));
}

#[test]
fn a_fresh_container_takes_nothing() {
    let ply = Ply::with_busybox();
    let run = ["run", "-d", "--network", "none", "--name", "c1"];
    let rest = ["--hostname", "a-long-name", "busybox", "sleep", "1000"];
    ply.run(&[&run[..], &rest].concat()).ok();
    let size = || {
        ply.run(&["ps", "-s", "--format", "{{.Size}}"])
            .ok()
            .to_owned()
    };
    assert!(size().starts_with("0B (virtual "), "{}", size());
    let inspected = ply.run(&["inspect", "-s", "-f", "{{.SizeRw}}", "c1"]);
    assert_eq!(inspected.ok(), "0");
    let df = ply.run(&["system", "df", "--format", "{{.Type}} {{.Size}}"]);
    assert!(df.ok().contains("Containers 0B\n"), "{df:?}");
    ply.run(&["exec", "c1", "sh", "-c", "printf 12345 > /new"])
        .ok();
    assert!(size().starts_with("5B (virtual "), "{}", size());
    ply.remove_all();
}

#[test]
fn the_verbose_use_of_the_disk_goes_through_a_template() {
    let ply = Ply::with_busybox();
    ply.run(&["create", "--name", "c1", "-v", "v1:/data", "busybox"])
        .ok();
    let df = |format: &str| {
        let df = ply.run(&["system", "df", "-v", "--format", format]);
        df.ok().to_owned()
    };
    let names = "{{range .Images}}{{.Repository}} {{end}}{{range .Containers}}{{.Names}} {{.Size}} {{end}}\
                 {{range .Volumes}}{{.Name}} {{.Links}}{{end}}";
    assert_eq!(df(names), "busybox c1 0B v1 1");
    for format in ["json", "{{json .}}"] {
        let all: serde_json::Value = serde_json::from_str(&df(format)).expect("JSON");
        assert_eq!(all["Containers"][0]["Image"], "busybox", "{format}");
        assert_eq!(all["BuildCache"], serde_json::json!([]), "{format}");
    }
    assert!(df("table").contains("Images space usage:"));
}
