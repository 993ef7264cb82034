//! TLS in front of the server: who has no certificate of our authority's does not reach it.
//!
//! A thread a connection turns TLS into plain bytes on a socket pair, so that all behind it, hijacked streams and ends
//! of one direction included, is the same as on a Unix socket.

use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;

use crate::command_error::CommandError;

/// How much is held for a side that does not read.
const BUFFER: usize = 64 << 10;

/// How long a client may take to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Reads our certificate, its key, and the authority whose certificates clients must have.
pub(crate) fn config(
    authority: &Path,
    certificate: &Path,
    key: &Path,
) -> Result<Arc<ServerConfig>, CommandError> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        CommandError::failed(format_args!("could not load {}: {error}", path.display()))
    };
    let certificates = |path: &Path| {
        let read = CertificateDer::pem_file_iter(path)
            .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
        read.map_err(|error| failed(path, &error))
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(authority)? {
        roots.add(root).map_err(|error| failed(authority, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| failed(authority, &error))?;
    let key_file = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(CommandError::failed)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(certificate)?, key_file)
        .map_err(|error| failed(certificate, &error))?;
    Ok(Arc::new(config))
}

/// Returns the plain end of a connection.
pub(super) fn terminate(config: Arc<ServerConfig>, client: TcpStream) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    client.set_nonblocking(true)?;
    ours.set_nonblocking(true)?;
    let tls = ServerConnection::new(config).map_err(io::Error::other)?;
    let relay = Relay {
        tls,
        client,
        plain: ours,
        received: Vec::new(),
        client_has_ended: false,
        server_has_ended: false,
    };
    std::thread::Builder::new()
        .name("tls".to_owned())
        .spawn(move || {
            if let Err(error) = relay.run() {
                log::debug!("TLS: {error}");
            }
        })?;
    Ok(theirs)
}

struct Relay {
    tls: ServerConnection,
    client: TcpStream,
    plain: UnixStream,
    /// What has been decrypted and not been passed on.
    received: Vec<u8>,
    client_has_ended: bool,
    server_has_ended: bool,
}

impl Relay {
    fn run(mut self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            if self.tls.is_handshaking() && began.elapsed() > HANDSHAKE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let (client, plain) = self.wait()?;
            if client.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && !self.client_has_ended
            {
                self.receive()?;
            }
            if plain.intersects(PollFlags::HUP | PollFlags::ERR) && self.server_has_ended {
                self.received.clear();
            }
            self.pass_on()?;
            if plain.intersects(PollFlags::IN | PollFlags::HUP) && !self.server_has_ended {
                self.take_up()?;
            }
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut self.client) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            if self.server_has_ended && !self.tls.wants_write() {
                let _ = self.client.shutdown(Shutdown::Write);
                return Ok(());
            }
        }
    }

    /// Waits until one of the sides can go on.
    fn wait(&self) -> io::Result<(PollFlags, PollFlags)> {
        let mut client = PollFlags::empty();
        client.set(
            PollFlags::IN,
            !self.client_has_ended && self.received.len() < BUFFER && self.tls.wants_read(),
        );
        client.set(PollFlags::OUT, self.tls.wants_write());
        let mut plain = PollFlags::empty();
        plain.set(
            PollFlags::IN,
            !self.server_has_ended && !self.tls.is_handshaking() && !self.tls.wants_write(),
        );
        plain.set(PollFlags::OUT, !self.received.is_empty());
        let mut polled = [
            PollFd::new(&self.client, client),
            PollFd::new(&self.plain, plain),
        ];
        let limit = self.tls.is_handshaking().then_some(Timespec {
            tv_sec: HANDSHAKE.as_secs() as i64,
            tv_nsec: 0,
        });
        match rustix::event::poll(&mut polled, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok((polled[0].revents(), polled[1].revents()))
    }

    /// Decrypts what the client has sent.
    fn receive(&mut self) -> io::Result<()> {
        match self.tls.read_tls(&mut self.client) {
            Ok(0) => self.client_has_ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let state = match self.tls.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The alert says why.
                let _ = self.tls.write_tls(&mut self.client);
                return Err(io::Error::other(error));
            }
        };
        let mut decrypted = vec![0; state.plaintext_bytes_to_read()];
        self.tls.reader().read_exact(&mut decrypted)?;
        self.received.extend(decrypted);
        self.client_has_ended |= state.peer_has_closed();
        if self.client_has_ended && self.received.is_empty() {
            let _ = self.plain.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Passes decrypted bytes on to the server.
    fn pass_on(&mut self) -> io::Result<()> {
        if self.received.is_empty() {
            return Ok(());
        }
        match self.plain.write(&self.received) {
            Ok(count) => {
                self.received.drain(..count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.received.is_empty() && self.client_has_ended {
            let _ = self.plain.shutdown(Shutdown::Write);
        }
        Ok(())
    }

    /// Encrypts what the server has sent.
    fn take_up(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        match self.plain.read(&mut buffer) {
            Ok(0) => {
                self.tls.send_close_notify();
                self.server_has_ended = true;
            }
            Ok(count) => self.tls.writer().write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
