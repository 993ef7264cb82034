//! `ply serve`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;

use crate::command_error::CommandError;
use crate::context::Context;
use crate::output::outln;
use crate::serve;
use crate::serve::Address;
use crate::serve::Listener;

/// Serve Docker's Engine API, so that Docker's clients work on these containers
#[derive(Debug, ClapArgs)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Where to listen: `unix://PATH`, `tcp://HOST:PORT`, `fd://` (systemd's sockets) [default: RUN_DIR.sock]
    #[arg(short = 'H', long, value_name = "ADDRESS")]
    host: Vec<Address>,
    /// The group that may use the Unix socket [default: `ply` or `docker`, if there is one]
    #[arg(short = 'G', long, value_name = "GROUP")]
    group: Option<String>,
    /// Serve TCP to clients whose certificate is of our authority
    #[arg(long)]
    tlsverify: bool,
    /// The authority's certificate [default: ~/.docker/ca.pem]
    #[arg(long, value_name = "FILE")]
    tlscacert: Option<PathBuf>,
    /// Our certificate [default: ~/.docker/cert.pem]
    #[arg(long, value_name = "FILE")]
    tlscert: Option<PathBuf>,
    /// Its key [default: ~/.docker/key.pem]
    #[arg(long, value_name = "FILE")]
    tlskey: Option<PathBuf>,
    /// Serve TCP to whoever connects: who does is root on this machine
    #[arg(long, conflicts_with = "tlsverify")]
    insecure_tcp: bool,
    /// Print a systemd unit that serves, for /etc/systemd/system
    #[arg(long)]
    unit: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, CommandError> {
    let default = context.config.run.with_extension("sock");
    if args.unit {
        return print_unit(&args, context);
    }
    let addresses = match args.host.is_empty() {
        true => vec![Address::Unix(default)],
        false => args.host.clone(),
    };
    let mut listeners = Vec::new();
    for address in &addresses {
        match address {
            Address::Unix(path) => listeners.push(Listener::unix(path, args.group.as_deref())?),
            Address::Passed => listeners.extend(Listener::passed()?),
            Address::Tcp(address) => listeners.push(tcp(&args, address)?),
        }
    }
    // Each client that is attached has some.
    runtime::allow_all_open_files();
    let engine = context.engine()?;
    serve::run(engine, listeners).map_err(CommandError::failed)?;
    Ok(ExitCode::SUCCESS)
}

fn tcp(args: &Args, address: &str) -> Result<Listener, CommandError> {
    if args.insecure_tcp {
        eprintln!(
            "WARNING: API is accessible on http://{address} without encryption and without asking who comes.\n\
             WARNING: access to it is equivalent to root access on this machine."
        );
        return Listener::tcp(address, None);
    }
    if !args.tlsverify {
        return Err(CommandError::failed(format_args!(
            "tcp://{address} needs --tlsverify: whoever reaches it is root on this machine\n\
             hint: --tlsverify --tlscacert=ca.pem --tlscert=cert.pem --tlskey=key.pem; --insecure-tcp if nobody else \
             can reach it"
        )));
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    let file = |given: &Option<PathBuf>, name: &str| {
        given
            .clone()
            .unwrap_or_else(|| home.join(".docker").join(name))
    };
    let config = serve::tls_config(
        &file(&args.tlscacert, "ca.pem"),
        &file(&args.tlscert, "cert.pem"),
        &file(&args.tlskey, "key.pem"),
    )?;
    Listener::tcp(address, Some(config))
}

fn print_unit(args: &Args, context: &Context) -> Result<ExitCode, CommandError> {
    if !args.host.is_empty() {
        return Err(CommandError::failed(
            "conflicting options: --unit and --host; add -H to the unit's ExecStart",
        ));
    }
    let program = std::env::current_exe().map_err(CommandError::failed)?;
    let config = &context.config;
    outln!(
        "[Unit]\n\
         Description=Docker's Engine API on ply's containers\n\
         After=local-fs.target network-online.target\n\
         Wants=network-online.target\n\n\
         [Service]\n\
         Type=notify\n\
         ExecStart={} --root {} --run-dir {} serve\n\
         # Each container has a monitor of its own, which goes on without this service.\n\
         KillMode=process\n\
         Delegate=yes\n\
         LimitNOFILE=524288\n\
         TasksMax=infinity\n\
         Restart=on-failure\n\n\
         [Install]\n\
         WantedBy=multi-user.target",
        program.display(),
        config.root.display(),
        config.run.display()
    );
    Ok(ExitCode::SUCCESS)
}
