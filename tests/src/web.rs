//! A server of files over HTTP, on the loopback.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;

/// What is at a path.
#[derive(Debug, Clone, Default)]
struct Page {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
}

/// Serves what it is given; it ends with this.
#[derive(Debug)]
pub struct Web {
    address: String,
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
    asked: Arc<Mutex<Vec<String>>>,
    server: Option<JoinHandle<()>>,
}

impl Default for Web {
    fn default() -> Web {
        Web::start()
    }
}

impl Web {
    /// Starts a server that has nothing.
    pub fn start() -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let pages: Arc<Mutex<BTreeMap<String, Page>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (served, heard) = (Arc::clone(&pages), Arc::clone(&asked));
        let server = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                match path_of(&stream) {
                    Some(path) if path == "/end" => return,
                    Some(path) => {
                        let page = served.lock().expect("no panic").get(&path).cloned();
                        heard.lock().expect("no panic").push(path);
                        answer(stream, page);
                    }
                    None => {}
                }
            }
        });
        Web {
            address,
            pages,
            asked,
            server: Some(server),
        }
    }

    /// Returns the whole address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Puts something at a path, with headers that end in `\r\n` each.
    pub fn put(&self, path: &str, headers: &str, body: impl Into<Vec<u8>>) {
        self.insert(path, "200 OK", headers, body.into());
    }

    /// Leads from one path to another.
    pub fn redirect(&self, path: &str, to: &str) {
        let location = format!("Location: {}\r\n", self.url(to));
        self.insert(path, "302 Found", &location, Vec::new());
    }

    /// Returns the paths that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }

    fn insert(&self, path: &str, status: &'static str, headers: &str, body: Vec<u8>) {
        let page = Page {
            status,
            headers: headers.to_owned(),
            body,
        };
        let mut pages = self.pages.lock().expect("no panic");
        pages.insert(path.to_owned(), page);
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(&self.address) {
            let _ = stream.write_all(b"GET /end HTTP/1.1\r\n\r\n");
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Reads a request; returns its path, without the query.
fn path_of(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    for line in lines {
        if line.ok()?.is_empty() {
            break;
        }
    }
    let target = first.split(' ').nth(1)?;
    target.split('?').next().map(str::to_owned)
}

fn answer(mut stream: TcpStream, page: Option<Page>) {
    let page = page.unwrap_or(Page {
        status: "404 Not Found",
        ..Page::default()
    });
    let head = format!(
        "HTTP/1.1 {}\r\n{}Content-Length: {}\r\nConnection: close\r\n\r\n",
        page.status,
        page.headers,
        page.body.len()
    );
    // A client that has seen enough may be gone.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&page.body));
}
