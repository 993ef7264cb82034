//! A scripted registry that can misbehave in every way a test asks for.

use std::collections::HashMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use layerfs::Digest;
use runtime::reference::Reference;
use serde_json::Value;
use serde_json::json;

/// What came in.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// How many requests for the same path came before.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What goes out.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What `Content-Length` states, if not the truth.
    pub stated: Option<usize>,
    /// After so many bytes of the body...
    pub cut: Option<usize>,
    /// ... the connection stays silent instead of being closed.
    pub stall: bool,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: body.into(),
            stated: None,
            cut: None,
            stall: false,
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn cut(mut self, at: usize) -> Answer {
        self.cut = Some(at);
        self
    }

    pub fn stall(mut self, at: usize) -> Answer {
        self.cut = Some(at);
        self.stall = true;
        self
    }

    /// A registry's error.
    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        let body = json!({"errors": [{"code": code, "message": message, "detail": null}]});
        Answer::new(status, body.to_string()).header("Content-Type", "application/json")
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// The server; its threads end with it.
pub struct Fake {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Fake {
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let handler: Arc<Handler> = Arc::new(handler);
        let (seen, stopped) = (requests.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (handler, seen, stopped) = (handler.clone(), seen.clone(), stopped.clone());
                std::thread::spawn(move || {
                    if let Ok(stream) = stream {
                        let _ = serve(&stream, &*handler, &seen, &stopped);
                    }
                });
            }
        });
        Fake {
            address,
            requests,
            stop,
        }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How often a path with that end was asked for.
    pub fn count(&self, method: &str, end: &str) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.method == method && request.path.ends_with(end))
            .count()
    }

    pub fn image(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(
    mut stream: &TcpStream,
    handler: &Handler,
    seen: &Mutex<Vec<Request>>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    // A TLS hello gets a closed door, as from any plain server.
    if reader.fill_buf()?.first().is_none_or(|byte| *byte == 0x16) {
        return Ok(());
    }
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = {
        let mut seen = seen.lock().unwrap();
        let nth = seen
            .iter()
            .filter(|before| before.path == path && before.method == method)
            .count();
        let request = Request {
            method,
            path,
            headers,
            body,
            nth,
        };
        seen.push(request.clone());
        request
    };
    let answer = handler(&request);
    let stated = answer.stated.unwrap_or(answer.body.len());
    let mut head = format!(
        "HTTP/1.1 {} X\r\nContent-Length: {stated}\r\nConnection: close\r\n",
        answer.status
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let end = answer
        .cut
        .unwrap_or(answer.body.len())
        .min(answer.body.len());
    stream.write_all(&answer.body[..end])?;
    while answer.stall && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// An image as a registry has it.
#[derive(Clone)]
pub struct Parts {
    pub manifest: Value,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
    pub blobs: HashMap<String, Vec<u8>>,
}

impl Parts {
    /// An image of these tars, compressed with gzip.
    pub fn of(tars: &[Vec<u8>]) -> Parts {
        let layers = tars.iter().map(|tar| gzip(tar)).collect();
        Parts::with(super::config(tars), layers)
    }

    /// An image of a config and layers' blobs that may not fit it.
    pub fn with(config: Value, layers: Vec<Vec<u8>>) -> Parts {
        let config = config.to_string().into_bytes();
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|layer| {
                json!({
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "size": layer.len(),
                    "digest": Digest::of(layer).to_string(),
                })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "size": config.len(),
                "digest": Digest::of(&config).to_string(),
            },
            "layers": descriptors,
        });
        let mut blobs: HashMap<String, Vec<u8>> = layers
            .iter()
            .map(|layer| (Digest::of(layer).to_string(), layer.clone()))
            .collect();
        blobs.insert(Digest::of(&config).to_string(), config.clone());
        Parts {
            manifest,
            config,
            layers,
            blobs,
        }
    }

    /// The small image that most tests want: two layers, the first of some size.
    pub fn small() -> Parts {
        Parts::of(&[
            super::layer(&[
                ("etc/motd", b"hello\n"),
                ("bin/tool", &super::noise(7, 300_000)),
            ]),
            super::layer(&[("etc/motd", b"changed\n")]),
        ])
    }

    pub fn manifest_bytes(&self) -> Vec<u8> {
        self.manifest.to_string().into_bytes()
    }

    /// The digest of a layer's blob.
    pub fn layer_digest(&self, position: usize) -> String {
        Digest::of(&self.layers[position]).to_string()
    }

    /// Answers as a good registry does.
    pub fn answer(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default();
        if path == "/v2/" {
            return Answer::new(200, "{}");
        }
        if path.contains("/manifests/") {
            let bytes = self.manifest_bytes();
            let digest = Digest::of(&bytes).to_string();
            return Answer::new(200, bytes)
                .header("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                .header("Docker-Content-Digest", digest);
        }
        let digest = path.rsplit('/').next().unwrap_or_default();
        match self.blobs.get(digest) {
            Some(blob) => Answer::new(200, blob.clone()),
            None => Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        }
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Where a `Range` header starts.
pub fn range_start(request: &Request) -> Option<usize> {
    request
        .header("range")?
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}
