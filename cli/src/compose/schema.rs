//! The tables of the Compose Specification: which keys there are, and what stands at each.

use serde_json::Value;
use serde_json::json;

use super::shape::Shape;
use super::shape::Shape::*;
use super::short_forms;

type Fields = &'static [(&'static str, Shape)];

/// A whole file.
pub(crate) const FILE: Shape = Object(&[
    ("version", TextOrNumber),
    ("name", Text),
    (
        "include",
        List(&Short(short_forms::include, &Object(INCLUDE))),
    ),
    ("services", Names(&Optional(&Object(SERVICE)))),
    ("networks", Names(&Optional(&Object(NETWORK)))),
    ("volumes", Names(&Optional(&Object(VOLUME)))),
    ("secrets", Names(&Object(SECRET))),
    ("configs", Names(&Object(CONFIG))),
    ("models", Any),
]);

const INCLUDE: Fields = &[
    ("path", TextOrList),
    ("env_file", TextOrList),
    ("project_directory", Text),
];

const NETWORK: Fields = &[
    ("name", Text),
    ("driver", Text),
    ("driver_opts", Pairs),
    ("ipam", Object(IPAM)),
    ("external", EXTERNAL),
    ("internal", Boolean),
    ("enable_ipv4", Boolean),
    ("enable_ipv6", Boolean),
    ("attachable", Boolean),
    ("labels", Pairs),
];

const IPAM: Fields = &[
    ("driver", Text),
    ("config", List(&Object(SUBNET))),
    ("options", Pairs),
];

const SUBNET: Fields = &[
    ("subnet", Text),
    ("ip_range", Text),
    ("gateway", Text),
    ("aux_addresses", Pairs),
];

const VOLUME: Fields = &[
    ("name", Text),
    ("driver", Text),
    ("driver_opts", Pairs),
    ("external", EXTERNAL),
    ("labels", Pairs),
];

const SECRET: Fields = &[
    ("name", Text),
    ("environment", Text),
    ("file", Text),
    ("external", EXTERNAL),
    ("labels", Pairs),
    ("driver", Text),
    ("driver_opts", Pairs),
    ("template_driver", Text),
];

const CONFIG: Fields = &[
    ("name", Text),
    ("content", Text),
    ("environment", Text),
    ("file", Text),
    ("external", EXTERNAL),
    ("labels", Pairs),
    ("template_driver", Text),
];

const EXTERNAL: Shape = Short(
    short_forms::external,
    &Object(&[("name", Text), ("is", Boolean)]),
);

const SERVICE: Fields = &[
    ("annotations", Pairs),
    ("attach", Boolean),
    ("blkio_config", Object(BLKIO)),
    ("build", Short(short_forms::build, &Object(BUILD))),
    ("cap_add", Texts),
    ("cap_drop", Texts),
    ("cgroup", Word(&["host", "private"])),
    ("cgroup_parent", Text),
    ("command", Command),
    ("configs", List(&FILE_MOUNT)),
    ("container_name", Text),
    ("cpu_count", Integer),
    ("cpu_percent", Number),
    ("cpu_period", Integer),
    ("cpu_quota", Integer),
    ("cpu_rt_period", TextOrNumber),
    ("cpu_rt_runtime", TextOrNumber),
    ("cpu_shares", Integer),
    ("cpus", Number),
    ("cpuset", Text),
    ("credential_spec", Any),
    ("depends_on", NamesOrList(&Object(DEPENDENCY), started)),
    ("deploy", Object(DEPLOY)),
    ("develop", Any),
    ("device_cgroup_rules", Texts),
    (
        "devices",
        List(&Short(short_forms::device, &Object(DEVICE))),
    ),
    ("dns", TextOrList),
    ("dns_opt", Texts),
    ("dns_search", TextOrList),
    ("domainname", Text),
    ("entrypoint", Command),
    ("env_file", ENV_FILES),
    ("environment", Pairs),
    ("expose", Texts),
    ("extends", Short(short_forms::extends, &Object(EXTENDS))),
    ("external_links", Texts),
    ("extra_hosts", Hosts),
    ("gpus", Any),
    ("group_add", Texts),
    ("healthcheck", Object(HEALTHCHECK)),
    ("hostname", Text),
    ("image", Text),
    ("init", Boolean),
    ("ipc", Text),
    ("isolation", Text),
    ("label_file", TextOrList),
    ("labels", Pairs),
    ("links", Texts),
    ("logging", Object(&[("driver", Text), ("options", Pairs)])),
    ("mac_address", Text),
    ("mem_limit", Bytes),
    ("mem_reservation", Bytes),
    ("mem_swappiness", Integer),
    ("memswap_limit", Bytes),
    ("models", Any),
    ("network_mode", Text),
    (
        "networks",
        NamesOrList(&Optional(&Object(ATTACHMENT)), nothing),
    ),
    ("oom_kill_disable", Boolean),
    ("oom_score_adj", Integer),
    ("pid", Text),
    ("pids_limit", Integer),
    ("platform", Text),
    ("ports", ShortList(short_forms::ports, &Object(PORT))),
    ("post_start", HOOKS),
    ("pre_start", Any),
    ("pre_stop", HOOKS),
    ("privileged", Boolean),
    ("profiles", Texts),
    ("provider", Object(&[("type", Text), ("options", Any)])),
    ("pull_policy", Text),
    ("pull_refresh_after", Text),
    ("read_only", Boolean),
    ("restart", Text),
    ("runtime", Text),
    ("scale", Integer),
    ("secrets", List(&FILE_MOUNT)),
    ("security_opt", Texts),
    ("shm_size", Bytes),
    ("stdin_open", Boolean),
    ("stop_grace_period", Duration),
    ("stop_signal", Text),
    ("storage_opt", Pairs),
    ("sysctls", Pairs),
    ("tmpfs", TextOrList),
    ("tty", Boolean),
    ("ulimits", ULIMITS),
    ("use_api_socket", Boolean),
    ("user", TextOrNumber),
    ("userns_mode", Text),
    ("uts", Text),
    ("volumes", List(&Short(short_forms::volume, &Object(MOUNT)))),
    ("volumes_from", Texts),
    ("working_dir", Text),
];

const HOOKS: Shape = List(&Object(&[
    ("command", Command),
    ("environment", Pairs),
    ("privileged", Boolean),
    ("user", TextOrNumber),
    ("working_dir", Text),
]));

const BLKIO: Fields = &[
    ("weight", Integer),
    (
        "weight_device",
        List(&Object(&[("path", Text), ("weight", Integer)])),
    ),
    ("device_read_bps", RATES),
    ("device_write_bps", RATES),
    ("device_read_iops", RATES),
    ("device_write_iops", RATES),
];

const RATES: Shape = List(&Object(&[("path", Text), ("rate", Bytes)]));

const BUILD: Fields = &[
    ("additional_contexts", Pairs),
    ("args", Pairs),
    ("cache_from", Texts),
    ("cache_to", Texts),
    ("context", Text),
    ("dockerfile", Text),
    ("dockerfile_inline", Text),
    ("entitlements", Texts),
    ("extra_hosts", Hosts),
    ("isolation", Text),
    ("labels", Pairs),
    ("network", Text),
    ("no_cache", Boolean),
    ("no_cache_filter", TextOrList),
    ("platforms", Texts),
    ("privileged", Boolean),
    ("provenance", Any),
    ("pull", Boolean),
    ("sbom", Any),
    ("secrets", List(&FILE_MOUNT)),
    ("shm_size", Bytes),
    ("ssh", Pairs),
    ("tags", Texts),
    ("target", Text),
    ("ulimits", ULIMITS),
];

const FILE_MOUNT: Shape = Short(
    short_forms::file_mount,
    &Object(&[
        ("source", Text),
        ("target", Text),
        ("uid", TextOrNumber),
        ("gid", TextOrNumber),
        ("mode", Short(short_forms::mode, &Any)),
    ]),
);

const DEPENDENCY: Fields = &[
    (
        "condition",
        Word(&[
            "service_started",
            "service_healthy",
            "service_completed_successfully",
        ]),
    ),
    ("required", Boolean),
    ("restart", Boolean),
];

fn started() -> Value {
    json!({"condition": "service_started", "required": true})
}

fn nothing() -> Value {
    Value::Null
}

const DEPLOY: Fields = &[
    ("mode", Text),
    ("endpoint_mode", Text),
    ("replicas", Integer),
    ("labels", Pairs),
    ("rollback_config", Any),
    ("update_config", Any),
    (
        "resources",
        Object(&[("limits", Object(LIMITS)), ("reservations", Object(LIMITS))]),
    ),
    (
        "restart_policy",
        Object(&[
            ("condition", Text),
            ("delay", Duration),
            ("max_attempts", Integer),
            ("window", Duration),
        ]),
    ),
    ("placement", Any),
];

const LIMITS: Fields = &[
    ("cpus", TextOrNumber),
    ("memory", Bytes),
    ("pids", Integer),
    ("generic_resources", Any),
    ("devices", Any),
];

const DEVICE: Fields = &[("source", Text), ("target", Text), ("permissions", Text)];

const ENV_FILES: Shape = Short(
    short_forms::list,
    &List(&Short(
        short_forms::env_file,
        &Object(&[("path", Text), ("required", Boolean), ("format", Text)]),
    )),
);

const EXTENDS: Fields = &[("service", Text), ("file", Text)];

const HEALTHCHECK: Fields = &[
    ("disable", Boolean),
    ("test", Test),
    ("interval", Duration),
    ("timeout", Duration),
    ("retries", Integer),
    ("start_period", Duration),
    ("start_interval", Duration),
];

const ATTACHMENT: Fields = &[
    ("aliases", Texts),
    ("driver_opts", Pairs),
    ("gw_priority", Number),
    ("interface_name", Text),
    ("ipv4_address", Text),
    ("ipv6_address", Text),
    ("link_local_ips", Texts),
    ("mac_address", Text),
    ("priority", Number),
];

const PORT: Fields = &[
    ("app_protocol", Text),
    ("host_ip", Text),
    ("mode", Text),
    ("name", Text),
    ("protocol", Text),
    ("published", TextOrNumber),
    ("target", Integer),
];

const ULIMITS: Shape = Names(&Short(
    short_forms::ulimit,
    &Object(&[("soft", Integer), ("hard", Integer)]),
));

const MOUNT: Fields = &[
    (
        "type",
        Word(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"]),
    ),
    ("source", Text),
    ("target", Text),
    ("read_only", Boolean),
    ("consistency", Text),
    (
        "bind",
        Object(&[
            ("create_host_path", Boolean),
            ("propagation", Text),
            (
                "recursive",
                Word(&["enabled", "disabled", "writable", "readonly"]),
            ),
            ("selinux", Word(&["z", "Z"])),
        ]),
    ),
    (
        "volume",
        Object(&[("labels", Pairs), ("nocopy", Boolean), ("subpath", Text)]),
    ),
    (
        "tmpfs",
        Object(&[("mode", Short(short_forms::mode, &Any)), ("size", Bytes)]),
    ),
    ("image", Object(&[("subpath", Text)])),
];
